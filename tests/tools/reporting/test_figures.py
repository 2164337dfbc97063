import math

import pytest
from matplotlib.container import BarContainer

from tests.tools.outputs import leave
from tools.launching import protocols
from tools.launching.grid import ELEVEN
from tools.launching.protocols import Cell
from tools.reporting.collect import collect
from tools.reporting.figures import all_figures


def cell(trainer, dataset, **changes):
    return Cell(trainer, "vit_b16", dataset, 1, **changes)


def pictures(output):
    return {picture.name: picture.figure for picture in all_figures(collect([output])[0], "std")}


def lines(axes):
    """The curves of a panel, by colour and marker."""
    found = {}
    for container in axes.containers:
        line = container.lines[0]
        found[line.get_color(), line.get_marker()] = dict(zip(line.get_xdata(), line.get_ydata()))
    return found


@pytest.fixture
def few_shot(tmp_path):
    for number, dataset in enumerate(ELEVEN):
        leave(tmp_path, protocols.zeroshot(cell("ZeroshotCLIP", dataset))[0], 40.0 + number)
        for shots in (1, 2, 4):
            for trainer, gain in (("CoOp", 0), ("MMTPA", 5)):
                if (trainer, dataset, shots) != ("MMTPA", "dtd", 2):
                    run = protocols.fewshot(cell(trainer, dataset, shots=shots))[0]
                    leave(tmp_path, run, 50.0 + number + shots + gain)
    return tmp_path


def test_few_shot_has_twelve_panels_with_a_line_for_each_method(few_shot):
    figure = pictures(few_shot)["fewshot"]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels[:3]] == ["Average", "ImageNet", "Caltech101"]
    assert len(panels) == 12
    zero, coop, mmtpa = lines(panels[1]).values()
    assert zero == {0: 40.0}
    assert coop == {1: 51.0, 2: 52.0, 4: 54.0}
    assert mmtpa == {1: 56.0, 2: 57.0, 4: 59.0}
    assert lines(panels[0]).keys() == lines(panels[1]).keys()  # one style for a method throughout
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ZeroshotCLIP", "CoOp", "MMTPA"]


def test_an_incomplete_average_interrupts_its_line_and_says_so(few_shot):
    average = pictures(few_shot)["fewshot"].axes[0]
    _, coop, mmtpa = lines(average).values()
    assert coop == {1: 56.0, 2: 57.0, 4: 59.0}
    assert math.isnan(mmtpa[2])
    assert (mmtpa[1], mmtpa[4]) == (61.0, 64.0)
    assert [text.get_text() for text in average.texts] == ["incomplete:\nMMTPA"]


def test_spreads_are_drawn(tmp_path):
    for shots in (1, 2):
        for seed in (1, 2):
            run = protocols.fewshot(Cell("CoOp", "vit_b16", "dtd", seed, shots))[0]
            leave(tmp_path, run, 50.0 + 2 * seed)
    (axes,) = pictures(tmp_path)["fewshot"].axes
    ((_, _, bars),) = (container.lines for container in axes.containers)
    assert bars[0].get_segments()[0][:, 1] == pytest.approx([53 - 2**0.5, 53 + 2**0.5])


def test_epochs_show_base_solid_and_new_dashed(tmp_path):
    _, *tests = protocols.overfitting(cell("CoOp", "dtd", settings=("OPTIM.MAX_EPOCH", "3")))
    for run in tests:
        leave(tmp_path, run, 60.0 + run.load_epoch * (1 if "base" in run.settings else -1))
    figure = pictures(tmp_path)["overfitting_16shots"]
    base, new = (container.lines[0] for container in figure.axes[0].containers)
    assert (base.get_linestyle(), new.get_linestyle()) == ("-", "--")
    assert list(base.get_ydata()) == [61, 62, 63]
    assert list(new.get_ydata()) == [59, 58, 57]


def test_base_to_new_bars_are_the_averages(tmp_path):
    for trainer, dataset, base, new in (
        ("CoOp", "dtd", 80, 60),
        ("CoOp", "eurosat", 90, 70),
        ("MMTPA", "dtd", 1, 1),
    ):
        leave(tmp_path, protocols.base2new_train(cell(trainer, dataset))[0], float(base))
        leave(tmp_path, protocols.base2new_test(cell(trainer, dataset))[0], float(new))
    (axes,) = pictures(tmp_path)["base2new_16shots"].axes
    (bars,) = [container for container in axes.containers if isinstance(container, BarContainer)]
    assert [bar.get_height() for bar in bars] == pytest.approx([85, 65, 2 * 85 * 65 / 150])
    assert axes.get_title() == "incomplete: MMTPA"


def test_one_number_of_shots_is_bars(tmp_path):
    for trainer, dataset, accuracy in (
        ("CoOp", "dtd", 80.0),
        ("CoOp", "eurosat", 90.0),
        ("MMTPA", "dtd", 70.0),
    ):
        leave(tmp_path, protocols.fewshot(cell(trainer, dataset))[0], accuracy)
    leave(tmp_path, protocols.zeroshot(cell("ZeroshotCLIP", "dtd"))[0], 50.0)
    leave(tmp_path, protocols.zeroshot(cell("ZeroshotCLIP", "eurosat"))[0], 40.0)
    (axes,) = pictures(tmp_path)["fewshot"].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "Average",
        "DescribableTextures",
        "EuroSAT",
    ]
    heights = {
        container.get_label(): [bar.get_height() for bar in container]
        for container in axes.containers
        if isinstance(container, BarContainer)
    }
    assert heights["ZeroshotCLIP"] == [45, 50, 40]
    assert heights["CoOp"] == [85, 80, 90]
    assert heights["MMTPA"][1] == 70
    assert math.isnan(heights["MMTPA"][0])
    assert math.isnan(heights["MMTPA"][2])
    assert axes.get_title() == "incomplete: MMTPA"


def test_the_toy_model_is_named(tmp_path):
    for shots in (1, 2):
        leave(tmp_path, protocols.fewshot(cell("CoOp", "dtd", shots=shots))[0], 50.0, backbone="mini")
    title = pictures(tmp_path)["fewshot"].get_suptitle()
    assert "bundled toy model" in " ".join(title.split())
    assert max(map(len, title.splitlines())) < 60  # of five inches
