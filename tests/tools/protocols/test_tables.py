"""Tables of a small output against numbers computed by hand."""

import pytest

from runs import shipped
from runs.shipped import ELEVEN, VARIANTS
from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.protocols.base_to_new import base_runs, new_runs
from tools.protocols.few_shot import fewshot, zeroshot
from tools.protocols.overfitting import overfitting
from tools.protocols.prompt_length import prompt_length
from tools.protocols.transfer import target_runs
from tools.reporting.collect import collect
from tools.reporting.contents import all_tables


def cell(trainer, dataset="dtd", seed=1, config="vit_b16", **changes):
    return Cell(trainer, config or "mini", dataset, seed, **changes)


def tables(output, spread="std", reference=None):
    results, warnings = collect([output])
    assert not warnings
    return {table.name: table for table in all_tables(results, spread, reference)}


def row(table, label, section="", published=""):
    (found,) = [r for r in table.rows if (r.label, r.section, r.published) == (label, section, published)]
    return [None if v.number is None else round(v.number, 3) for v in found.values], found


@pytest.fixture
def base_to_new(tmp_path):
    accuracies = {
        ("CoOp", "dtd", 1): (80, 60),
        ("CoOp", "dtd", 2): (82, 58),
        ("CoOp", "eurosat", 1): (90, 70),
        ("CoOp", "eurosat", 2): (92, 66),
        ("MMTPA", "dtd", 1): (81, 70),
        ("MMTPA", "dtd", 2): (83, 72),
        ("MMTPA", "eurosat", 1): (91, 75),
        ("ZeroshotCLIP", "dtd", 1): (60, 62),
        ("ZeroshotCLIP", "eurosat", 1): (50, 64),
    }
    for (trainer, dataset, seed), (base, new) in accuracies.items():
        for (run,), accuracy in (
            (base_runs(cell(trainer, dataset, seed)), base),
            (new_runs(cell(trainer, dataset, seed)), new),
        ):
            leave(tmp_path, run, float(accuracy))
    return tmp_path


def test_base_to_new_by_hand(base_to_new):
    table = tables(base_to_new)["base2new_16shots"]
    numbers, found = row(table, "CoOp", "Average")
    # Base (80 + 82 + 90 + 92) / 4, new (60 + 58 + 70 + 66) / 4, H of these.
    assert numbers == [86.0, 63.5, round(2 * 86 * 63.5 / 149.5, 3)]
    # Seeds' averages: base 85 and 87, new 65 and 62.
    assert found.values[0].spread == pytest.approx(2**0.5)
    assert found.values[1].spread == pytest.approx(4.5**0.5)
    assert row(table, "ZeroshotCLIP", "Average")[0] == [55.0, 63.0, round(2 * 55 * 63 / 118, 3)]
    assert row(table, "CoOp", "DescribableTextures")[0] == [81.0, 59.0, round(2 * 81 * 59 / 140, 3)]


def test_an_incomplete_grid_is_shown_as_incomplete(base_to_new):
    table = tables(base_to_new)["base2new_16shots"]
    numbers, found = row(table, "MMTPA", "Average")
    assert numbers == [None] * 3
    assert str(found.values[0]) == "incomplete, 1/2"
    assert str(row(table, "MMTPA", "EuroSAT")[1].values[0]) == "91.00 (1/2 seeds)"
    ranked = {
        table.rows[number].label for number, _ in table.ranks() if table.rows[number].section == "Average"
    }
    assert ranked == {"CoOp", "ZeroshotCLIP"}


def test_published_rows_stand_beside_ours_marked(tmp_path):
    for dataset in ELEVEN:
        leave(tmp_path, base_runs(cell("CoOp", dataset))[0], 80.0)
        leave(tmp_path, new_runs(cell("CoOp", dataset))[0], 60.0)
    table = tables(tmp_path)["base2new_16shots"]
    assert row(table, "MaPLe", "Average", "MaPLe README")[0] == [82.28, 75.14, 78.55]
    published = [r for r in table.rows if r.published and r.section == "Average"]
    assert len(published) == 10
    assert row(table, "MMTPA", "EuroSAT", "figure of the authors")[0] == [94.03, 74.90, None]


def test_averages_over_eleven_data_sets_do_not_stand_beside_those_of_others(base_to_new):
    table = tables(base_to_new)["base2new_16shots"]
    published = [r for r in table.rows if r.published]
    assert [(r.section, r.label) for r in published] == [("EuroSAT", "MMTPA")]


def test_published_rows_are_those_of_their_backbone(tmp_path):
    for run in [*base_runs(cell("CoOp")), *new_runs(cell("CoOp"))]:
        leave(tmp_path, run, 60.0, backbone="mini")
    table = tables(tmp_path)["base2new_16shots"]
    assert not any(r.published for r in table.rows)
    assert any("toy model" in note for note in table.notes)


def test_backbones_are_not_mixed(base_to_new):
    run = base_runs(cell("CoOp"))[0]
    leave(base_to_new / "other", run, 10.0, backbone="RN50")
    found = tables(base_to_new)
    assert row(found["base2new_16shots_RN50"], "CoOp", "DescribableTextures")[0] == [10.0, None, None]
    assert row(found["base2new_16shots_ViT-B-16"], "CoOp", "Average")[0][0] == 86.0


def test_comparison_pairs_data_sets_and_seeds(base_to_new):
    table = tables(base_to_new)["comparison"]
    # MMTPA - CoOp on base: 1, 1 on DTD, 1 on EuroSAT.
    numbers, found = row(table, "MMTPA", "base classes")
    assert numbers == [1.0, None, None, 2.0, 3.0]
    assert found.values[0].spread is None  # of two data sets
    other = tables(base_to_new, reference="MMTPA")["comparison"]
    assert row(other, "CoOp", "base classes")[0][0] == -1.0
    with pytest.raises(ValueError, match="--reference 'PLOT' is not among the methods: ZeroshotCLIP, CoOp"):
        tables(base_to_new, reference="PLOT")


def test_what_sees_no_shots_is_compared_with_none_unless_it_is_asked_for(base_to_new):
    table = tables(base_to_new)["comparison"]
    assert {r.label for r in table.rows} == {"MMTPA"}
    table = tables(base_to_new, reference="ZeroshotCLIP")["comparison"]
    # 80 - 60, 82 - 60 on DTD, 90 - 50, 92 - 50 on EuroSAT: the mean of 21 and 41.
    assert row(table, "CoOp", "base classes")[0] == [31.0, None, None, 2.0, 4.0]
    assert any("ZeroshotCLIP learns nothing, of no shots" in note for note in table.notes)


def test_several_methods_are_corrected(tmp_path):
    for number, dataset in enumerate(ELEVEN):
        for trainer, gain in (("CoOp", 0.0), ("MMTPA", 1.0 + number), ("PLOT", -5.0 + number)):
            leave(tmp_path, fewshot(cell(trainer, dataset, config=None))[0], 60.0 + gain)
    table = tables(tmp_path)["comparison"]
    (mmtpa, _), (plot, _) = row(table, "MMTPA", "few-shot"), row(table, "PLOT", "few-shot")
    assert mmtpa[1] == pytest.approx(2 / 2**11, abs=5e-4)
    assert mmtpa[2] == pytest.approx(4 / 2**11, abs=5e-4)  # the least of two, twice
    assert plot[1] == plot[2] == 1.0
    assert row(table, "MMTPA", "few-shot")[1].values[0].spread == pytest.approx(2.228139 * 11**0.5 / 11**0.5)


def test_a_table_names_only_what_differs_in_it(tmp_path):
    for number, (rate, words) in enumerate((("0.1", ""), ("0.2", "a photo of a"))):
        settings = ("OPTIM.LR", rate, "TRAINER.COOP.CTX_INIT", words)
        leave(tmp_path / str(number), fewshot(cell("CoOp", settings=settings))[0], 60.0)
    settings = ("OPTIM.LR", "0.1", "TRAINER.COOP.CTX_INIT", "a photo of a")
    leave(tmp_path / "2", fewshot(cell("CoOp", settings=settings))[0], 61.0)
    for run in [
        *base_runs(cell("CoOp", settings=settings)),
        *new_runs(cell("CoOp", settings=settings)),
    ]:
        leave(tmp_path, run, 60.0)
    found = tables(tmp_path)
    assert {r.label for r in found["fewshot"].rows} == {
        "CoOp (LR 0.1, CTX_INIT '')",
        "CoOp (LR 0.1, CTX_INIT 'a photo of a')",
        "CoOp (LR 0.2, CTX_INIT 'a photo of a')",
    }
    assert {r.label for r in found["base2new_16shots"].rows if not r.published} == {"CoOp"}
    assert "CoOp is CoOp (LR 0.1, CTX_INIT 'a photo of a')" in found["base2new_16shots"].notes


def test_a_reconstruction_is_called_one(tmp_path):
    leave(tmp_path, fewshot(cell("APLe"))[0], 60.0)
    assert any("APLe: a reconstruction" in note for note in tables(tmp_path)["fewshot"].notes)


def test_what_a_reader_must_know_stands_below_and_names_its_methods(tmp_path):
    leave(tmp_path, fewshot(cell("CoOp"))[0], 60.0)
    for name, said in {"CLAP": ["features_only"], "TaskRes": ["features_only", "told_half"]}.items():
        leave(tmp_path, fewshot(cell(name))[0], 60.0, disclosures=said)
    notes = tables(tmp_path)["fewshot"].notes
    assert "CLAP, TaskRes: trained on image features only" in notes
    assert "TaskRes: told at test time which half of the classes is tested" in notes
    assert not any(note.startswith("CoOp:") for note in notes)


def test_what_keeps_features_has_shots_without_a_parameter(tmp_path):
    leave(tmp_path, fewshot(cell("TipAdapter"))[0], 60.0, trainable_parameters=0, learns=True)
    assert tables(tmp_path)["fewshot"].columns == ("16 shots",)


def test_a_reference_that_one_backbone_has_is_enough(base_to_new):
    run = fewshot(cell("PLOT", config="rn50"))[0]
    leave(base_to_new / "other", run, 10.0, backbone="RN50")
    assert "comparison_ViT-B-16" in tables(base_to_new, reference="MMTPA")


def test_few_shot_over_shots(tmp_path):
    for shots, accuracies in {1: (50.0, 54.0), 4: (60.0, 66.0)}.items():
        for seed, accuracy in enumerate(accuracies, 1):
            leave(tmp_path, fewshot(cell("CoOp", seed=seed, shots=shots))[0], accuracy)
    leave(tmp_path, zeroshot(cell("ZeroshotCLIP"))[0], 40.0)
    leave(tmp_path, zeroshot(cell("ZeroshotCLIP", "imagenet_r"))[0], 10.0)  # of a transfer
    table = tables(tmp_path, "ci95")["fewshot"]
    assert table.columns == ("0 shots", "1 shot", "4 shots")
    numbers, found = row(table, "CoOp", "Average")
    assert numbers == [None, 52.0, 63.0]
    assert found.values[2].spread == pytest.approx(12.7062 * 3, rel=1e-5)  # t(0.975, 1) * sd / sqrt(2)
    assert row(table, "ZeroshotCLIP", "DescribableTextures")[0] == [40.0, None, None]
    assert {r.section for r in table.rows} == {"Average", "DescribableTextures"}


@pytest.mark.parametrize(
    ("name", "targets", "published"),
    [("xd", ELEVEN[1:], [71.51, 93.70, 63.88]), ("dg", VARIANTS, [71.51, 64.20, 59.28])],
)
def test_transfer_averages_the_targets(tmp_path, name, targets, published):
    leave(tmp_path, fewshot(cell("CoOp", "imagenet"))[0], 70.0)
    for number, dataset in enumerate(targets):
        leave(tmp_path, target_runs(cell("CoOp", dataset))[0], 50.0 + number)
    table = tables(tmp_path)[f"{name}_ImageNet_16shots"]
    assert table.columns == ("ImageNet", *map(shipped.registered_name, targets), "Average")
    numbers, _ = row(table, "CoOp")
    assert numbers == [70.0, *(50.0 + n for n in range(len(targets))), 50 + (len(targets) - 1) / 2]
    numbers, _ = row(table, "CoOp", published="HPT README")
    assert [numbers[0], numbers[1], numbers[-1]] == published


def test_curves_over_length_and_epochs(tmp_path):
    for length in (2, 4):
        leave(tmp_path, prompt_length(cell("CoOp"), length)[0], 50.0 + length)
    train, *tests = overfitting(cell("CoOp", settings=("OPTIM.MAX_EPOCH", "2")))
    leave(tmp_path, train, 61.0)
    for run in tests:
        leave(tmp_path, run, 60.0 + run.load_epoch * (1 if "base" in run.settings else -1))
    found = tables(tmp_path)
    assert row(found["prompt_length_16shots"], "CoOp", "Average")[0] == [52.0, 54.0]
    assert found["overfitting_base_16shots"].columns == ("1 epoch", "2 epochs")
    assert row(found["overfitting_base_16shots"], "CoOp", "Average")[0] == [61.0, 62.0]
    assert row(found["overfitting_new_16shots"], "CoOp", "Average")[0] == [59.0, 58.0]


def test_cost(tmp_path):
    for seed, step in ((1, 0.010), (2, 0.012)):
        time = {"started": "2026", "setup_seconds": 1.0, "run_seconds": 10.0 * seed, "step_seconds": step}
        leave(tmp_path, fewshot(cell("CoOp", seed=seed))[0], 60.0, time=time)
    time |= {"step_seconds": None}  # no step behind the first ones
    leave(tmp_path, fewshot(cell("MMTPA"))[0], 60.0, time=time)
    table = tables(tmp_path)["cost"]
    assert row(table, "CoOp", "DescribableTextures")[0] == [8192, 11.0, 15.0, 3072]
    assert str(row(table, "MMTPA", "DescribableTextures")[1].values[1]) == "not measured"
    assert not table.ranks()
