import json
import sys

import pytest
import torch

from runs.errors import clean_errors
from tests.tools.outputs import leave
from tools import compare
from tools.launching.cell import Cell
from tools.protocols.few_shot import fewshot


def metrics(**accuracies):
    classes = [{"class": name, "accuracy": value, "images": 10} for name, value in accuracies.items()]
    mean = sum(accuracies.values()) / len(accuracies)
    return {"accuracy": mean, "error_rate": 100 - mean, "macro_f1": mean, "images": 10, "per_class": classes}


@pytest.fixture
def runs(tmp_path):
    a = fewshot(Cell("CoOp", "mini", "dtd", 1, settings=("OPTIM.LR", "0.1")))[0]
    b = fewshot(Cell("MMTPA", "mini", "dtd", 1, settings=("OPTIM.LR", "0.2")))[0]
    first = leave(tmp_path, a, 60.0, metrics=metrics(cat=90.0, dog=50.0, owl=40.0, yak=1.0))
    changes = {"trainable_parameters": 9000, "few_shot_hash": "d2"}
    second = leave(tmp_path, b, 60.0, metrics=metrics(dog=80.0, cat=60.0, owl=40.0, emu=1.0), **changes)
    return first, second


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
    with clean_errors():
        compare.main()
    return capsys.readouterr().out


def test_two_runs(runs, monkeypatch, capsys):
    out = run(monkeypatch, capsys, runs[0].parent, runs[1])
    lines = [line.split() for line in out.splitlines()]
    differing = out.partition("Settings")[2].partition("Metrics")[0].split("\n")[1:-2]
    assert [line.strip() for line in differing] == [
        "trainer: CoOp -> MMTPA",
        "few_shot_hash: dtd all 16 1 -> d2",
        "OPTIM.LR: 0.1 -> 0.2",
    ]
    assert ["accuracy", "(%)", "45.25", "45.25", "0.00"] in lines
    assert ["trainable", "parameters", "8,192", "9,000", "808"] in lines
    assert "Classes: 1 gain, 1 lose, 1 are as before" in out  # of those that both have
    gains, losses = out.partition("\nGains\n")[2].split("\nLosses\n")
    assert gains.splitlines()[1].split() == ["dog", "50.0", "80.0", "30.0", "10"]
    assert losses.splitlines()[1].split() == ["cat", "90.0", "60.0", "-30.0", "10"]


def test_what_a_record_lacks_is_not_compared(runs, monkeypatch, capsys):
    """Of another version, or edited: everything that a reader of records does not insist on."""
    record = json.loads(runs[0].read_text())
    for name in ("trainable_parameters", "peak_memory"):
        del record[name]
    for name in ("macro_f1", "per_class"):
        del record["metrics"][name]
    del record["time"]["run_seconds"]
    runs[0].write_text(json.dumps(record))
    out = run(monkeypatch, capsys, *runs)
    lines = [line.split() for line in out.splitlines()]
    assert ["trainable", "parameters", "-", "9,000", "-"] in lines
    assert ["peak", "memory", "(MiB)", "-", "3,072", "-"] in lines
    assert ["macro", "F1", "(%)", "-", "45.25", "-"] in lines
    assert "Classes: 0 gain, 0 lose, 0 are as before" in out


def test_the_largest_changes_come_first(tmp_path, monkeypatch, capsys):
    folders = []
    for seed, sign in ((1, 0), (2, 1)):
        accuracies = {f"c{i}": 50.0 + sign * i for i in range(-5, 6)}
        cell = fewshot(Cell("CoOp", "mini", "dtd", seed))[0]
        folders.append(leave(tmp_path, cell, 50.0, metrics=metrics(**accuracies)).parent)
    out = run(monkeypatch, capsys, *folders, "--classes", 2)
    gains, losses = out.partition("\nGains\n")[2].split("\nLosses\n")
    assert [line.split()[0] for line in gains.splitlines()[1:]] == ["c5", "c4", "..."]
    assert [line.split()[0] for line in losses.splitlines()[1:]] == ["c-5", "c-4", "..."]
    assert "and 3 more" in gains


def test_the_same_run_has_no_differences(runs):
    record = compare.record_of(runs[0])
    assert compare.settings(record, record) == []
    assert (compare.metrics(record, record)["B - A"] == 0).all()


def test_two_checkpoints(runs, monkeypatch, capsys):
    paths = []
    for path, state in zip(
        runs,
        (
            {"ctx": torch.tensor([3.0, 4.0]), "old": torch.ones(1)},
            {"ctx": torch.tensor([3.0, 0.0]), "new": torch.ones(2)},
        ),
    ):
        folder = path.parent / "prompt_learner"
        folder.mkdir()
        torch.save({"state_dict": state, "epoch": 2}, folder / "model.pth.tar-2")
        paths.append(folder / "model.pth.tar-2")
    out = run(monkeypatch, capsys, *paths)
    lines = [line.split() for line in out.splitlines()]
    assert ["ctx", "(2,)", "5", "3", "4"] in lines
    assert ["old", "(1,)", "->", "none", "1", "-", "-"] in lines
    assert ["new", "none", "->", "(2,)", "-", "1.414", "-"] in lines
    assert "trainer: CoOp -> MMTPA" in out  # their runs are there, too


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{a}", "{a}/gone"], "gone does not exist"),
        (["{a}", "{a}/notes.txt"], "one is a checkpoint and the other a run"),
        (["{a}/notes.txt", "{a}/notes.txt"], "notes.txt"),
        (["{a}", "{a}/.."], "no record of a finished run at"),
    ],
)
def test_wrong_input_is_one_line(runs, monkeypatch, capsys, words, said):
    (runs[0].parent / "notes.txt").write_text("notes")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, *(word.format(a=runs[0].parent) for word in words))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) == 1
