"""A second run of train.py into the same folder."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.engine import TRAINER_REGISTRY
from runs.record import read_record
from tests.conftest import ROOT
from tests.train.running import changed, everything_in


def test_a_finished_run_is_not_repeated(run_train, short_run, tmp_path):
    run_train(*short_run)
    before = (tmp_path / "run" / "result.json").read_bytes()
    ended = run_train(*short_run)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Already finished: {tmp_path / 'run'} (accuracy ")
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_a_finished_run_can_be_repeated(run_train, short_run, tmp_path):
    run_train(*short_run)
    first = read_record(tmp_path / "run")
    ended = run_train(*short_run, "TRAIN.OVERWRITE", True)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [1/2]" in ended.out
    second = read_record(tmp_path / "run")
    assert second["metrics"] == first["metrics"]
    assert second["config"]["TRAIN"]["OVERWRITE"] is True


@pytest.mark.parametrize("other", [["OPTIM.LR", 0.5], ["DATASET.NUM_SHOTS", 2]])
def test_a_finished_run_of_other_settings_is_an_error(run_train, short_run, tmp_path, other):
    run_train(*short_run)
    ended = run_train(*short_run, *other)
    ended.assert_wrong_input(str(tmp_path / "run"), f"{other[0]}: ", f"-> {other[1]}", "TRAIN.OVERWRITE True")


def test_an_overwrite_that_cannot_begin_loses_nothing(run_train, short_run, tmp_path):
    run_train(*short_run)
    before = everything_in(tmp_path / "run")
    ended = run_train(*short_run, "TRAIN.OVERWRITE", True, "MODEL.BACKBONE.NAME", "ViT-B16")
    ended.assert_wrong_input("'ViT-B16'")
    assert everything_in(tmp_path / "run") == before


def test_an_interrupted_overwrite_goes_on_and_keeps_the_old_run_until_its_end(
    run_train, short_run, tmp_path, interrupted
):
    folder, again = tmp_path / "run", [*short_run, "TRAIN.OVERWRITE", True]
    run_train(*short_run)
    first, log = read_record(folder), (folder / "log.txt").read_text()
    interrupted(epoch=1)
    ended = run_train(*again)
    assert ended.code == 130
    assert not (folder / "result.json").exists()
    assert json.loads((folder / ".replaced" / "replaced.json").read_text()) == first
    assert list(folder.glob(".replaced/*/model.pth.tar-2"))
    assert (folder / ".replaced" / "log.txt").read_text() == log
    assert collect_nothing(folder)

    interrupted(never=True)
    ended = run_train(*again)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [1/2]" not in ended.out
    assert read_record(folder)["metrics"] == first["metrics"]
    assert not (folder / ".replaced").exists()


def test_an_interrupted_overwrite_can_be_begun_anew_with_other_settings(
    run_train, short_run, tmp_path, interrupted
):
    folder = tmp_path / "run"
    run_train(*short_run)
    first = read_record(folder)
    interrupted(epoch=1)
    assert run_train(*short_run, "TRAIN.OVERWRITE", True, "OPTIM.LR", 0.5).code == 130
    assert run_train(*short_run, "TRAIN.OVERWRITE", True).code == 130
    assert json.loads((folder / ".replaced" / "replaced.json").read_text()) == first
    interrupted(never=True)
    run_train(*short_run)  # it goes on without the setting, too
    assert read_record(folder)["config"]["OPTIM"]["LR"] == first["config"]["OPTIM"]["LR"]
    assert not (folder / ".replaced").exists()


def test_a_finished_run_is_the_same_however_its_data_folder_is_written(
    run_train, short_run, tmp_path, data_root
):
    run_train(*short_run)
    written = os.path.relpath(data_root, ROOT) + "/"
    ended = run_train(*changed(short_run, root=written), "DATALOADER.NUM_WORKERS", 1)
    assert ended.out.startswith("Already finished: ")


def test_what_a_finished_run_has_not_left_is_another_run(run_train, short_run, tmp_path):
    run_train(*short_run)
    run_train(*short_run, "TRAIN.CHECKPOINT_FREQ", 1).assert_wrong_input("TRAIN.CHECKPOINT_FREQ: 0 -> 1")


def test_a_folder_in_which_another_process_works(run_train, short_run, tmp_path):
    (tmp_path / "run").mkdir()
    with another_process_in(tmp_path / "run") as process:
        ended = run_train(*short_run)
        ended.assert_wrong_input(
            str(tmp_path / "run"), f"process {process} on {socket.gethostname()} since 20"
        )
    assert run_train(*short_run).code == 0


def test_a_folder_that_is_deleted_under_a_run(run_train, short_run, tmp_path, monkeypatch):
    def delete(self):
        if self.epoch == 1:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(TRAINER_REGISTRY.get("CoOp"), "before_epoch", delete, raising=False)
    run_train(*short_run).assert_wrong_input(str(tmp_path / "run"), "No such file or directory")
    assert not (tmp_path / "run").exists()


def collect_nothing(folder: Path) -> bool:
    """Whether a report finds no result there."""
    return not list(folder.rglob("result.json"))


@contextlib.contextmanager
def another_process_in(folder: Path):
    """A process that holds the folder; yields its number."""
    program = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); from runs.lock import only_one\n"
    program += "with only_one(pathlib.Path(sys.argv[2])): print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program, str(ROOT), str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()
