import json

import pytest

from runs.record import SCHEMA, write_record
from runs.same_run import about_model
from tools.launching.cell import Cell
from tools.launching.state import finished, settings
from tools.protocols.base_to_new import base_runs, new_runs

CELL = Cell("CoOp", "mini", "shapes", 1, 16, ("OPTIM.LR", "1e-2", "TRAINER.COOP.CTX_INIT", ""))


@pytest.fixture
def run():
    return base_runs(CELL)[0]


def record_of(run, **changes):
    """As train.py leaves it, without what is of no interest here."""
    return {
        "schema": SCHEMA,
        "kind": "eval" if run.evaluates else "train",
        "trainer": run.trainer,
        "dataset": "Shapes",
        "metrics": None,
        "time": {},
        "config": json.loads(json.dumps(settings(run))),
        **changes,
    }


def leave(record, folder):
    folder.mkdir(parents=True)
    write_record(record, folder)
    return record


def test_a_run_without_a_record_is_open(run, tmp_path):
    assert finished(run, tmp_path) is None


def test_settings_are_those_of_all_files_and_of_the_command_line(run):
    cfg = settings(run)
    assert (cfg.OPTIM.LR, cfg.SEED, cfg.TRAINER.NAME, cfg.DATASET.NAME) == (0.01, 1, "CoOp", "Shapes")
    assert (cfg.MODEL.BACKBONE.NAME, cfg.DATASET.NUM_SHOTS) == ("mini", 16)
    assert cfg.DATASET.SUBSAMPLE_CLASSES == "base"


def test_a_record_of_the_same_settings_is_the_run(run, tmp_path):
    record = record_of(run)
    record["config"] |= {"OUTPUT_DIR": "elsewhere", "VERBOSE": False}
    record["config"]["DATASET"]["ROOT"] = "/data"
    leave(record, tmp_path / run.folder)
    assert finished(run, tmp_path) == record


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("OPTIM", "LR", 0.02, "OPTIM.LR: 0.02 -> 0.01"),
        ("OPTIM", "MAX_EPOCH", 2, "OPTIM.MAX_EPOCH: 2 -> "),  # of the method's file
        ("OPTIM", "MOMENTUM", 0.5, "OPTIM.MOMENTUM: 0.5 -> 0.9"),  # a default
        ("DATASET", "NUM_SHOTS", 8, "DATASET.NUM_SHOTS: 8 -> 16"),
        ("DATASET", "NAME", "DTD", "DATASET.NAME: DTD -> Shapes"),
        ("TRAINER", "COOP", {"CTX_INIT": "a"}, "TRAINER.COOP.CTX_INIT: a -> "),
        ("TRAIN", "CHECKPOINT_FREQ", 1, "TRAIN.CHECKPOINT_FREQ: 1 -> 0"),
    ],
)
def test_a_record_of_other_settings_is_not_used(run, tmp_path, section, key, value, said):
    record = record_of(run)
    record["config"][section][key] = value
    leave(record, tmp_path / run.folder)
    with pytest.raises(ValueError, match="holds a finished run with other settings") as error:
        finished(run, tmp_path)
    assert said in str(error.value)


def test_a_test_is_of_its_model_wherever_that_lies_now(tmp_path):
    run = new_runs(CELL)[0]
    record = leave(record_of(run, model_dir=f"/old/output/{run.tests}"), tmp_path / run.folder)
    assert finished(run, tmp_path) == record
    other = record | {"model_dir": "/old/output/base2new/train_base/another"}
    leave(other, tmp_path / "moved" / run.folder)
    with pytest.raises(ValueError, match="model_dir: "):
        finished(run, tmp_path / "moved")


def test_a_test_of_a_model_that_was_trained_again_is_of_another(tmp_path):
    training, run = base_runs(CELL)[0], new_runs(CELL)[0]
    leave(record_of(training, time={"started": "2026-01-02"}), tmp_path / training.folder)
    folder = str(tmp_path / run.tests)
    record = record_of(run, model_dir=folder, model=about_model(folder))
    leave(record, tmp_path / run.folder)
    assert finished(run, tmp_path) == record
    write_record(record_of(training, time={"started": "2026-01-03"}), tmp_path / training.folder)
    with pytest.raises(ValueError, match="the model, trained: 2026-01-02 -> 2026-01-03"):
        finished(run, tmp_path)


def test_a_cut_off_record_is_named(run, tmp_path):
    leave(record_of(run), tmp_path / run.folder)
    path = tmp_path / run.folder / "result.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match=r"result\.json is cut off"):
        finished(run, tmp_path)
