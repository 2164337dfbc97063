import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from runs import shipped
from runs.shipped import ELEVEN
from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.protocols.base_to_new import base_runs, new_runs
from tools.protocols.few_shot import fewshot, zeroshot
from tools.protocols.overfitting import overfitting
from tools.reporting.collect import collect
from tools.reporting.figures import COLOURS, all_figures, styles


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
        leave(tmp_path, zeroshot(cell("ZeroshotCLIP", dataset))[0], 40.0 + number)
        for shots in (1, 2, 4):
            for trainer, gain in (("CoOp", 0), ("MMTPA", 5)):
                if (trainer, dataset, shots) != ("MMTPA", "dtd", 2):
                    run = fewshot(cell(trainer, dataset, shots=shots))[0]
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
    assert [text.get_text() for text in average.texts] == ["incomplete: MMTPA"]


def test_spreads_are_drawn(tmp_path):
    for shots in (1, 2):
        for seed in (1, 2):
            run = fewshot(Cell("CoOp", "vit_b16", "dtd", seed, shots))[0]
            leave(tmp_path, run, 50.0 + 2 * seed)
    (axes,) = pictures(tmp_path)["fewshot"].axes
    ((_, _, bars),) = (container.lines for container in axes.containers)
    assert bars[0].get_segments()[0][:, 1] == pytest.approx([53 - 2**0.5, 53 + 2**0.5])


def test_epochs_show_base_solid_and_new_dashed(tmp_path):
    _, *tests = overfitting(cell("CoOp", "dtd", settings=("OPTIM.MAX_EPOCH", "3")))
    for run in tests:
        leave(tmp_path, run, 60.0 + run.load_epoch * (1 if "base" in run.settings else -1))
    figure = pictures(tmp_path)["overfitting_16shots"]
    base, new = (container.lines[0] for container in figure.axes[0].containers)
    assert (base.get_linestyle(), new.get_linestyle()) == ("-", "--")
    assert list(base.get_ydata()) == [61, 62, 63]
    assert list(new.get_ydata()) == [59, 58, 57]


def dots(axes):
    """The numbers of a panel of dots from top to bottom, words where there is none."""
    found = {c.lines[0].get_ydata()[0]: float(c.lines[0].get_xdata()[0]) for c in axes.containers}
    found |= {
        text.get_position()[1]: text.get_text().strip() for text in axes.texts if text.get_ha() != "center"
    }
    return [found[at] for at in sorted(found)]


def names(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_base_to_new_dots_are_the_averages(tmp_path):
    for trainer, dataset, base, new in (
        ("CoOp", "dtd", 80, 60),
        ("CoOp", "eurosat", 90, 70),
        ("MMTPA", "dtd", 1, 1),
    ):
        leave(tmp_path, base_runs(cell(trainer, dataset))[0], float(base))
        leave(tmp_path, new_runs(cell(trainer, dataset))[0], float(new))
    figure = pictures(tmp_path)["base2new_16shots"]
    assert [axes.get_title() for axes in figure.axes] == ["Base", "New", "H"]
    assert names(figure) == ["CoOp", "MMTPA"]
    assert [dots(axes) for axes in figure.axes] == [
        [85, "incomplete"],
        [65, "incomplete"],
        [pytest.approx(2 * 85 * 65 / 150), "-"],
    ]
    assert "average of 2 data sets" in figure.get_suptitle()


def test_one_number_of_shots_is_dots(tmp_path):
    for trainer, dataset, accuracy in (
        ("CoOp", "dtd", 80.0),
        ("CoOp", "eurosat", 90.0),
        ("MMTPA", "dtd", 70.0),
    ):
        leave(tmp_path, fewshot(cell(trainer, dataset))[0], accuracy)
    leave(tmp_path, zeroshot(cell("ZeroshotCLIP", "dtd"))[0], 50.0)
    leave(tmp_path, zeroshot(cell("ZeroshotCLIP", "eurosat"))[0], 40.0)
    figure = pictures(tmp_path)["fewshot"]
    assert names(figure) == ["ZeroshotCLIP (no shots)", "CoOp", "MMTPA"]
    assert {axes.get_title(): dots(axes) for axes in figure.axes} == {
        "Average": [45, 85, "incomplete"],
        "DescribableTextures": [50, 80, 70],
        "EuroSAT": [40, 90, "-"],
    }


@pytest.fixture
def one_far_out(tmp_path):
    """Methods between 70 and 78 %, and PLOT at 20."""
    trainers = [name for name in shipped.trainers() if not name.startswith("Zeroshot")]
    spread = 5.5 / (len(trainers) - 1)
    for number, trainer in enumerate(trainers):
        for shots in (1, 2):
            accuracy = 20.0 + shots if trainer == "PLOT" else 70.0 + spread * number + shots
            leave(tmp_path, fewshot(Cell(trainer, "mini", "dtd", 1, shots))[0], accuracy)
        accuracy = 20.0 if trainer == "PLOT" else 70.0 + spread * number
        leave(tmp_path, base_runs(Cell(trainer, "mini", "dtd", 1))[0], accuracy)
        leave(tmp_path, new_runs(Cell(trainer, "mini", "dtd", 1))[0], accuracy)
    return tmp_path


def test_one_method_far_out_does_not_stretch_the_axis_but_is_named(one_far_out):
    found = pictures(one_far_out)
    (axes,) = found["fewshot"].axes
    low, high = axes.get_ylim()
    assert 55 < low < 71
    assert 77.5 < high < 79
    assert [text.get_text() for text in axes.texts] == ["↓ PLOT 21.0 to 22.0"]
    assert axes.texts[0].get_window_extent().y1 < axes.transData.transform((1, 71))[1]  # below every curve
    base = found["base2new_16shots"].axes[0]
    assert 69 < base.get_xlim()[0] < 70
    assert "← 20.0" in dots(base)


def test_spreads_are_within_the_axis(one_far_out):
    leave(one_far_out, base_runs(Cell("CoOp", "mini", "dtd", 2))[0], 80.0)
    leave(one_far_out, new_runs(Cell("CoOp", "mini", "dtd", 2))[0], 80.0)
    base = pictures(one_far_out)["base2new_16shots"].axes[0]
    ends = [x for c in base.containers for line in c.lines[2] for x in line.get_segments()[0][:, 0]]
    assert base.get_xlim()[0] < min(ends)
    assert max(ends) < base.get_xlim()[1]


def test_without_anything_far_out_all_of_it_is_shown(few_shot):
    for axes in pictures(few_shot)["fewshot"].axes[:12]:
        low, high = axes.get_ylim()
        assert all(low < y < high for curve in lines(axes).values() for y in curve.values() if y == y)


def lab(colours):
    """CIELAB (D65) of sRGB colours (n, 3)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = (linear @ np.array(to_xyz).T / [0.9505, 1, 1.089]).T
    f = [np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z)]
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=-1)


def test_every_method_has_a_colour_and_a_marker_of_its_own():
    many = [
        SimpleNamespace(method=f"{name} {n}", learns=True) for name in ("CoOp", "MMTPA") for n in range(20)
    ]
    found = list(styles(many).values())
    assert len({(style["color"], style["marker"]) for style in found}) == 40
    assert len({style["color"] for style in found[: len(COLOURS)]}) == len(COLOURS) >= 13
    again = found[len(COLOURS) : 2 * len(COLOURS)]
    assert {style["markerfacecolor"] for style in again} == {"white"}
    points = lab(np.array([to_rgb(colour) for colour in COLOURS]))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert apart[np.triu_indices(len(points), 1)].min() > 25  # 2.3 is just noticeable


def test_five_settings_of_a_method_are_named_by_what_differs_and_fit_the_legend(tmp_path):
    words = ["", "a photo of a", "a blurry photo of a very small", "itap of a", "a bad photo of the"]
    for number, text in enumerate(words):
        for shots in (1, 2):
            settings = ("OPTIM.LR", "0.1", "TRAINER.COOP.CTX_INIT", text)
            run = fewshot(cell("CoOp", "dtd", shots=shots, settings=settings))[0]
            leave(tmp_path / str(number), run, 50.0 + number)
    figure = pictures(tmp_path)["fewshot"]
    figure.draw_without_rendering()
    (legend,) = figure.legends
    shown = [" ".join(text.get_text().split()) for text in legend.get_texts()]
    assert shown == [f"CoOp (CTX_INIT '{text}')" for text in sorted(words)]
    inside = figure.get_window_extent()
    for text in legend.get_texts():
        box = text.get_window_extent()
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1


def test_a_dollar_in_a_name_is_one(tmp_path):
    for number, words in enumerate((r"a $\frac{1$ of a", "5 $ and 6 $ of")):
        for shots in (1, 2):
            run = fewshot(cell("CoOp", "dtd", shots=shots, settings=("TRAINER.COOP.CTX_INIT", words)))[0]
            leave(tmp_path / str(number), run, 50.0)
    figure = pictures(tmp_path)["fewshot"]
    figure.draw_without_rendering()
    assert figure.legends[0].get_texts()[0].get_text() == "CoOp (CTX_INIT '5 $ and 6 $ of')"


def test_validation_and_test_accuracies_have_axes_of_their_own(tmp_path):
    for shots in (1, 2):
        leave(tmp_path / "test", fewshot(cell("CoOp", "dtd", shots=shots))[0], 50.0)
        run = fewshot(cell("CoOp", "dtd", shots=shots, settings=("TEST.SPLIT", "val")))[0]
        leave(tmp_path / "val", run, 60.0)
    found = pictures(tmp_path)
    assert set(found) == {"fewshot_ViT-B-16", "fewshot_ViT-B-16_val"}
    assert found["fewshot_ViT-B-16_val"].get_supylabel() == "validation accuracy (%)"
    assert found["fewshot_ViT-B-16"].get_supylabel() == "test accuracy (%)"
    (curve,) = lines(found["fewshot_ViT-B-16_val"].axes[0]).values()
    assert curve == {1: 60.0, 2: 60.0}


def test_the_toy_model_is_named(tmp_path):
    for shots in (1, 2):
        leave(tmp_path, fewshot(cell("CoOp", "dtd", shots=shots))[0], 50.0, backbone="mini")
    title = pictures(tmp_path)["fewshot"].get_suptitle()
    assert "bundled toy model" in " ".join(title.split())
    assert max(map(len, title.splitlines())) < 60  # of five inches
