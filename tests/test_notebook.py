"""The lines of docs/notebook.md do what it says."""

import gc
import json
import re
import sys

import pytest

from tests.conftest import ROOT
from train import run
from trainers.base import PromptTrainer

CELLS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8"), re.M | re.S
)


def test_its_cells_run_and_run_again_at_once(tmp_path, monkeypatch, capsys):
    for folder in ("configs", "datasets", "clip"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    console, names = sys.stdout, {}
    for cell in CELLS:
        exec(cell, names)
        assert sys.stdout is console
    for name, folder in (("trained", "coop"), ("tested", "coop_test")):
        assert names[name] == json.loads((tmp_path / "output" / folder / "result.json").read_text())
    trained, tested = ({**names[name]["metrics"]} for name in ("trained", "tested"))
    assert trained.pop("temperature") == {**tested.pop("temperature"), "source": "validation"}
    assert trained == tested
    assert list(names["table"]["kind"]) == ["train", "eval"]
    capsys.readouterr()

    again = {}
    exec(CELLS[0], again)
    assert again["trained"] == names["trained"]
    printed = capsys.readouterr().out
    assert printed.count("Already finished: ") == 2
    assert f"{again['tested']['metrics']['accuracy']} " in printed


def test_nothing_of_a_run_stays_in_memory(short_run, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    run(*short_run)
    alive = [thing for thing in gc.get_objects() if issubclass(type(thing), PromptTrainer)]
    assert str(tmp_path / "run") not in [trainer.output_dir for trainer in alive]


def test_a_wrong_setting_is_an_exception(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    console = sys.stdout
    with pytest.raises(ValueError, match=r"no config key OPTIM\.LRR; the nearest is OPTIM\.LR"):
        run("--output-dir", tmp_path / "out", "--trainer", "CoOp", "OPTIM.LRR", 1)
    assert sys.stdout is console
    assert not (tmp_path / "out").exists()
