"""Tables and charts of what records say of probabilities, by hand."""

import pytest

from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.protocols.base_to_new import all_runs, base_runs, new_runs
from tools.protocols.few_shot import fewshot
from tools.reporting.collect import collect
from tools.reporting.contents import all_charts, all_tables
from tools.reporting.figures import all_figures


def cell(trainer, dataset="dtd", seed=1):
    return Cell(trainer, "vit_b16", dataset, seed)


def figures(ece, images=((10, 40.0, 50.0), (30, 90.0, 80.0))):
    """Two bins: images, of these right, their mean confidence."""
    bins = [{"images": n, "accuracy": right, "confidence": sure} for n, right, sure in images]
    empty = {"images": 0, "accuracy": None, "confidence": None}
    return {"ece": ece, "nll": ece / 10, "brier": ece / 20, "reliability": [*bins, *[empty] * 13]}


def left(output, run, accuracy, **metrics):
    known = {"accuracy": accuracy, "images": 40, "macro_accuracy": accuracy - 1, "halves": None}
    known |= {"probabilities": None, "temperature": None, "other_images": None, **metrics}
    leave(output, run, accuracy, metrics=known)


def fitted(value, ece):
    return {"value": value, "images": 8, "source": "validation", **figures(ece)}


def shown(results):
    return {table.name: table for table in all_tables(results, "std", None)}


def numbers(table, section, label):
    [row] = [row for row in table.rows if (row.section, row.label) == (section, label)]
    return {name: value.number for name, value in zip(table.columns, row.values)}, row


@pytest.fixture
def results(tmp_path):
    """Few-shot learning of two methods on two data sets; CoOp has no temperature on one of them."""
    for trainer, ece in (("CoOp", 6.0), ("MMTPA", 4.0)):
        for dataset in ("dtd", "eurosat"):
            run = fewshot(cell(trainer, dataset))[0]
            known = None if (trainer, dataset) == ("CoOp", "dtd") else fitted(1.5, ece / 2)
            left(tmp_path, run, 60.0, probabilities=figures(ece), temperature=known)
    leave(tmp_path, fewshot(cell("CoOp", "ucf101"))[0], 70.0)  # an older record
    return collect([tmp_path])[0]


def test_the_table_by_hand(results):
    table = shown(results)["probabilities_fewshot"]
    of_coop, row = numbers(table, "Average", "CoOp")
    assert of_coop["macro accuracy"] == 59
    assert (of_coop["ECE"], of_coop["NLL"], of_coop["Brier"]) == (6.0, 0.6, 0.3)
    assert of_coop["ECE at T"] is None
    assert row.values[table.columns.index("ECE at T")].remark == "incomplete, 1/2"
    of_mmtpa, _ = numbers(table, "EuroSAT", "MMTPA")
    assert (of_mmtpa["T"], of_mmtpa["ECE at T"], of_mmtpa["NLL at T"]) == (1.5, 2.0, 0.2)
    ranks = {
        table.columns[column]: table.rows[row].label
        for (row, column), rank in table.ranks().items()
        if rank == 1
    }
    assert ranks["ECE"] == "MMTPA"  # less is better
    assert "T" not in ranks
    assert {row.section for row in table.rows} == {"Average", "DescribableTextures", "EuroSAT"}


def test_the_reliability_chart_adds_up_images(results):
    charts = {chart.name: chart for chart in all_charts(results, "std")}
    chart = charts["reliability_fewshot"]
    as_they_are, at_t = chart.panels["MMTPA"]
    assert as_they_are.points == ((0.25, 50.0, 40.0), (0.75, 80.0, 90.0))
    assert (as_they_are.ece, at_t.ece) == (4.0, 2.0)
    assert chart.panels["CoOp"][1].points == ()  # not known of one of its data sets
    [picture] = [one for one in all_figures(results, "std") if one.name == chart.name]
    panels = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["CoOp", "MMTPA"]
    assert [len(axes.collections) for axes in panels] == [1, 2]
    assert [axes.texts[0].get_text() for axes in panels] == ["ECE 6.0 %", "ECE 4.0 %\nECE at T 2.0 %"]


def test_older_records_have_none(tmp_path):
    leave(tmp_path, fewshot(cell("CoOp"))[0], 70.0)
    results = collect([tmp_path])[0]
    assert shown(results).keys() == {"fewshot", "cost"}
    assert [chart.name for chart in all_charts(results, "std")] == ["fewshot"]


def test_columns_of_which_nothing_is_known_are_left_out(tmp_path):
    left(tmp_path, fewshot(cell("CoOp"))[0], 60.0, probabilities=figures(5.0))
    table = shown(collect([tmp_path])[0])["probabilities_fewshot"]
    assert table.columns == ("macro accuracy", "ECE", "NLL", "Brier")


def test_base_to_new_among_all_classes(tmp_path):
    """The model of the base classes on all; what learns nothing is tested so once, by the few-shot protocol's run."""
    for trainer in ("ZeroshotCLIP", "CoOp"):
        for run in (*base_runs(cell(trainer)), *new_runs(cell(trainer))):
            leave(tmp_path, run, 80.0)
    others = {"folder": "/elsewhere/textures", "images": 5, "auroc": 90.0, "fpr95": 30.0}
    [of_coop], [of_zero] = all_runs(cell("CoOp")), all_runs(cell("ZeroshotCLIP"))
    assert of_coop.folder == "base2new/test_all/dtd/shots_16/CoOp/vit_b16/seed1"
    assert of_zero == fewshot(cell("ZeroshotCLIP"))[0]
    left(
        tmp_path,
        of_coop,
        55.0,
        halves={"base": 60.0, "new": 40.0},
        probabilities=figures(5.0),
        other_images=others,
    )
    left(tmp_path, of_zero, 50.0, halves={"base": 50.0, "new": 50.0}, probabilities=figures(5.0))
    results, warnings = collect([tmp_path])
    assert not warnings
    tables = shown(results)
    assert {"base2new_16shots", "probabilities_all"} <= tables.keys()
    assert "fewshot" not in tables  # nothing is learned there
    table = tables["base2new_all_16shots"]
    assert numbers(table, "DescribableTextures", "CoOp")[0] == {"Base": 60, "New": 40, "H": 48}
    assert numbers(table, "DescribableTextures", "ZeroshotCLIP")[0] == {"Base": 50, "New": 50, "H": 50}
    assert numbers(tables["base2new_16shots"], "DescribableTextures", "CoOp")[0]["Base"] == 80
    table = tables["other_images_all_16shots"]
    assert numbers(table, "DescribableTextures", "CoOp")[0] == {"AUROC": 90, "FPR at 95 % recall": 30}
    assert "beside the images in textures" in table.notes
    assert {"base2new_16shots", "base2new_all_16shots", "reliability_all"} <= {
        chart.name for chart in all_charts(results, "std")
    }
