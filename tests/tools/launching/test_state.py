import json

import pytest

from runs.record import SCHEMA, write_record
from tools.launching import protocols
from tools.launching.protocols import Cell
from tools.launching.state import finished


@pytest.fixture
def run():
    settings = ("OPTIM.LR", "1e-2", "TRAINER.COOP.CTX_INIT", "", "OPTIM.STEPSIZE", "(10,)")
    return protocols.fewshot(Cell("CoOp", "mini", "oxford_pets", 1, 16, settings))[0]


@pytest.fixture
def record(run, tmp_path):
    record = {
        "schema": SCHEMA,
        "kind": "train",
        "trainer": "CoOp",
        "dataset": "OxfordPets",
        "metrics": None,
        "time": {},
        "config": {
            "SEED": 1,
            "TRAINER": {"NAME": "CoOp", "COOP": {"CTX_INIT": ""}},
            "DATASET": {"NAME": "OxfordPets", "NUM_SHOTS": 16},
            "OPTIM": {"LR": 0.01, "STEPSIZE": [10]},
        },
    }
    (tmp_path / run.folder).mkdir(parents=True)
    return record


def test_a_run_without_a_record_is_open(run, tmp_path):
    assert finished(run, tmp_path) is None


def test_a_record_of_the_same_settings_is_the_run(run, record, tmp_path):
    write_record(record, tmp_path / run.folder)
    assert finished(run, tmp_path) == record


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("OPTIM", "LR", 0.02, "OPTIM.LR 0.02, not 1e-2"),
        ("DATASET", "NUM_SHOTS", 8, "DATASET.NUM_SHOTS 8, not 16"),
        ("DATASET", "NAME", "DTD", "DATASET.NAME DTD, not OxfordPets"),
        ("TRAINER", "COOP", {"CTX_INIT": "a"}, "TRAINER.COOP.CTX_INIT a, not "),
        ("TRAINER", "COOP", {}, "TRAINER.COOP.CTX_INIT None, not "),
    ],
)
def test_a_record_of_other_settings_is_refused(run, record, tmp_path, section, key, value, said):
    record["config"][section][key] = value
    write_record(record, tmp_path / run.folder)
    with pytest.raises(ValueError, match="holds a finished run with") as error:
        finished(run, tmp_path)
    assert said in str(error.value)


def test_a_cut_off_record_is_named(run, record, tmp_path):
    (tmp_path / run.folder / "result.json").write_text(json.dumps(record)[:-5])
    with pytest.raises(ValueError, match=r"result\.json is cut off"):
        finished(run, tmp_path)
