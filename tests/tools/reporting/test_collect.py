import json

import pytest

from dassl.engine import resume
from runs.record import NOT_OF_THE_RUN, SCHEMA
from tests.tools.outputs import leave
from tools.launching import protocols
from tools.launching.protocols import Cell
from tools.reporting.collect import NOT_OF_THE_METHOD, collect, mixtures

CELL = Cell("CoOp", "vit_b16", "dtd", 1)
SETTINGS = {"OPTIM.LR": "0.1"}


def cell(**changes):
    return Cell(**{"trainer": "CoOp", "config": "vit_b16", "dataset": "dtd", "seed": 1, **changes})


def test_records_find_their_protocols(tmp_path):
    zero = cell(trainer="ZeroshotCLIP")
    source = cell(dataset="imagenet")
    train, *epochs = protocols.overfitting(cell(settings=("OPTIM.MAX_EPOCH", "2")))
    runs = {
        "fewshot": [*protocols.fewshot(cell()), *protocols.fewshot(zero), *protocols.xd_train(source)],
        "base": [*protocols.base2new_train(cell()), *protocols.base2new_train(zero)],
        "new": [*protocols.base2new_test(cell()), *protocols.base2new_test(zero)],
        "transfer": protocols.transfer_test(cell()),
        "prompt_length": protocols.prompt_length(cell(), 4),
        "overfitting": epochs,
    }
    leave(tmp_path, train, 50.0)  # the training alone is no point of the curve
    for group in runs.values():
        for run in group:
            leave(tmp_path, run, 60.0)
    results, warnings = collect([tmp_path])
    assert not warnings
    found = {name: [r for r in results if r.protocol == name] for name in runs}
    assert {name: len(of) for name, of in found.items()} == {name: len(of) for name, of in runs.items()}
    (transfer,) = found["transfer"]
    assert (transfer.source, transfer.dataset, transfer.shots) == ("ImageNet", "DescribableTextures", 16)
    assert found["prompt_length"][0].length == 4
    assert {(r.epoch, r.subset) for r in found["overfitting"]} == {
        (e, s) for e in (1, 2) for s in ("base", "new")
    }
    assert {r.shots for r in results if not r.learns} == {0}


def test_outputs_may_be_moved(tmp_path):
    leave(tmp_path / "a", protocols.xd_train(cell(dataset="imagenet"))[0], 70.0)
    leave(tmp_path / "a", protocols.transfer_test(cell())[0], 40.0)
    (tmp_path / "a").rename(tmp_path / "b")
    results, warnings = collect([tmp_path])
    assert not warnings
    assert [r.source for r in results if r.protocol == "transfer"] == ["ImageNet"]


def test_a_transfer_without_its_source_is_skipped_with_a_warning(tmp_path):
    leave(tmp_path, protocols.fewshot(cell())[0], 70.0)
    leave(tmp_path, protocols.transfer_test(cell(dataset="eurosat"))[0], 40.0)
    results, (warning,) = collect([tmp_path])
    assert len(results) == 1
    assert "imagenet/CoOp/vit_b16_16shots/seed1, is not there" in warning


def test_damaged_and_newer_records_are_skipped_and_named(tmp_path):
    good = leave(tmp_path, protocols.fewshot(cell())[0], 70.0)
    cut = leave(tmp_path, protocols.fewshot(cell(seed=2))[0], 70.0)
    cut.write_text(good.read_text()[:-20])
    newer = leave(tmp_path, protocols.fewshot(cell(seed=3))[0], 70.0, schema=SCHEMA + 1)
    untested = leave(tmp_path, protocols.fewshot(cell(seed=4))[0], None)
    foreign = leave(tmp_path, protocols.fewshot(cell(seed=5))[0], 70.0)
    record = json.loads(foreign.read_text())
    del record["trainable_parameters"]
    foreign.write_text(json.dumps(record))
    results, warnings = collect([tmp_path])
    assert [result.path for result in results] == [good.resolve()]
    assert len(warnings) == 4
    for path, words in {
        cut: "cut off",
        newer: f"schema {SCHEMA + 1}",
        untested: "not tested",
        foreign: "'trainable_parameters' missing",
    }.items():
        assert any(str(path) in warning and words in warning for warning in warnings), words


def test_a_report_of_nothing_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"no tested run below {tmp_path} \(looked for result.json\)"
    ):
        collect([tmp_path])
    with pytest.raises(FileNotFoundError, match="there is no folder "):
        collect([tmp_path / "gone"])
    leave(tmp_path, protocols.fewshot(cell())[0], None)
    with pytest.raises(FileNotFoundError, match=r"1 skipped: .*not tested"):
        collect([tmp_path])


def test_settings_that_differ_within_a_cell_tell_methods_apart(tmp_path):
    for number, rate in enumerate(("0.1", "0.2")):
        settings = ("OPTIM.LR", rate, "TRAIN.PRINT_FREQ", rate)
        leave(tmp_path / str(number), protocols.fewshot(cell(settings=settings))[0], 60.0 + number)
        leave(tmp_path / str(number), protocols.fewshot(cell(settings=settings, shots=1))[0], 50.0)
    leave(tmp_path, protocols.fewshot(cell(trainer="MMTPA"))[0], 70.0)
    results, warnings = collect([tmp_path])
    assert not warnings
    assert [(r.method, r.shots) for r in results] == [
        *((f"CoOp (LR {rate})", shots) for rate in ("0.1", "0.2") for shots in (1, 16)),
        ("MMTPA", 16),
    ]


def test_settings_that_differ_between_cells_do_not(tmp_path):
    for shots, epochs in ((1, "50"), (16, "200")):
        run = protocols.fewshot(cell(shots=shots, settings=("OPTIM.MAX_EPOCH", epochs)))[0]
        leave(tmp_path, run, 60.0)
    results, _ = collect([tmp_path])
    assert {result.method for result in results} == {"CoOp"}


def test_of_doubles_the_latest_counts(tmp_path):
    for number, accuracy in enumerate((60.0, 61.5)):
        time = {"started": f"2026-01-0{number + 1}T00:00:00+00:00", "setup_seconds": 1, "run_seconds": 1}
        leave(tmp_path / str(number), protocols.fewshot(cell())[0], accuracy, time=time)
    (result,), (warning,) = collect([tmp_path])
    assert result.accuracy == 61.5
    assert "2 runs of CoOp on DescribableTextures with seed 1" in warning
    assert "60.00, 61.50" in warning


def test_mixtures_are_named(tmp_path):
    leave(tmp_path, protocols.fewshot(cell())[0], 60.0)
    leave(tmp_path, protocols.fewshot(cell(trainer="MMTPA"))[0], 60.0)
    assert mixtures(collect([tmp_path])[0]) == []
    other = {"versions": {"commit": "0123456789abcdef-dirty"}, "backbone_hash": "b2", "few_shot_hash": "d2"}
    leave(tmp_path, protocols.fewshot(cell(trainer="MaPLe", config="mini"))[0], 60.0, **other)
    assert mixtures(collect([tmp_path])[0]) == [
        "runs of different code are mixed: c0ffee (2 runs), 01234567-dirty (1 run)",
        "runs with different weights of ViT-B/16 are mixed: b1 (2 runs), b2 (1 run)",
        "DescribableTextures: the methods did not see the same 16 shots of seed 1: dtd all  (2 runs), d2 (1 run)",
    ]


def test_uncommitted_changes_are_named(tmp_path):
    leave(tmp_path, protocols.fewshot(cell())[0], 60.0, versions={"commit": "abc-dirty"})
    (warning,) = mixtures(collect([tmp_path])[0])
    assert "uncommitted changes" in warning


def test_one_opinion_of_which_settings_change_a_result():
    assert NOT_OF_THE_METHOD | set(NOT_OF_THE_RUN) == resume.NOT_OF_THE_RESULT
