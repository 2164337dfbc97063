from tools.launching.cell import Cell
from tools.launching.estimate import Estimate
from tools.launching.status import Status, name_of
from tools.protocols.base_to_new import base_runs, new_runs
from tools.protocols.overfitting import overfitting
from tools.protocols.prompt_length import prompt_length

CELL = Cell("CoOp", "mini", "dtd", 1)
TRAIN, TEST = base_runs(CELL)[0], new_runs(CELL)[0]
RECORD = {
    "kind": "train",
    "trainer": "CoOp",
    "dataset": "DTD",
    "shots": 16,
    "metrics": {"accuracy": 61.26},
    "time": {"setup_seconds": 1, "run_seconds": 41},
}


def status(done=()):
    return Status([TRAIN, TEST], set(done), Estimate(), at_a_time=2)


def test_a_test_waits_for_its_model(capsys):
    state = status()
    assert state.ready() == TRAIN
    state.start(TRAIN, lambda: "")
    assert state.ready() is None
    state.finish(TRAIN, RECORD)
    assert state.ready() == TEST
    assert capsys.readouterr().out == "[1/2] base2new_train CoOp/mini dtd 16 shots seed 1: 61.3 %, 42 s\n"


def test_what_is_done_is_not_waiting():
    assert status({TRAIN.folder}).waiting == [TEST]


def test_a_failed_model_takes_its_tests_along():
    state = status()
    state.start(TRAIN, lambda: "")
    state.fail(TRAIN, "error: no data")
    assert state.failed == {
        TRAIN: "error: no data",
        TEST: f"not started, its model has failed ({TRAIN.folder})",
    }
    assert not state.waiting
    assert not state.running


def test_the_live_table_replaces_itself(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    state = status()
    state.start(TRAIN, lambda: "epoch 3/10")
    state.show()
    state.show()  # too soon
    first, second = capsys.readouterr().out.splitlines()
    assert first == "0 of 2 done, 1 running, 1 waiting"
    assert second.split()[:4] == ["0", "s", "base2new_train", "CoOp/mini"]
    assert len(second) == 49
    state.finish(TRAIN, RECORD)
    assert capsys.readouterr().out.startswith("\x1b[2A\x1b[J[1/2] base2new_train")


def test_names_tell_runs_of_a_grid_apart():
    runs = [
        *overfitting(CELL),
        *prompt_length(CELL, 2),
        *prompt_length(CELL, 4),
    ]
    assert len({name_of(run) for run in runs}) == len(runs)


def test_without_a_terminal_there_is_a_line_a_minute(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tools.launching.status.time.monotonic", lambda: now[0])
    state = status()
    state.start(TRAIN, lambda: "epoch 3/10, batch 5/20, loss 1.21, eta 0:02:10")
    state.show()
    assert capsys.readouterr().out == ""
    for seconds in (59, 1, 59, 1):
        now[0] += seconds
        state.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "0 of 2 done, 1 running, 1 waiting",
        "      60 s  base2new_train CoOp/mini dtd 16 shots seed 1: "
        "epoch 3/10, batch 5/20, loss 1.21, eta 0:02:10",
    ]
    assert len(lines) == 4
