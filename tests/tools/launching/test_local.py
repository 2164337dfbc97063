import fcntl
import shutil
import threading
from dataclasses import replace

import pytest

from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.launching.estimate import Estimate
from tools.launching.local import Local, slots, visible_gpus
from tools.launching.process import RunProcess
from tools.launching.status import Status
from tools.protocols.few_shot import fewshot

BROKEN = Cell("CoOp", "mini", "handwritten_digits", 1, 1, ("NO.SUCH_KEY", "1"))


def test_every_gpu_has_its_runs_and_its_share_of_the_cpus(monkeypatch):
    monkeypatch.setattr("tools.launching.local.cpu_count", lambda: 12)
    two = slots(["0", "3"], None, None)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in two] == ["0", "3"]
    assert {slot["OMP_NUM_THREADS"] for slot in two} == {"6"}
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(["0", "3"], 2, None)] == ["0", "3", "0", "3"]


def test_the_cpus_are_shared(monkeypatch):
    monkeypatch.setattr("tools.launching.local.cpu_count", lambda: 12)
    assert [slot["MKL_NUM_THREADS"] for slot in slots([], 3, None)] == ["4", "4", "4"]
    assert len(slots([], None, None)) == 12
    assert len(slots([], None, 4)) == 3
    assert slots([], 1, 2)[0]["CUDA_VISIBLE_DEVICES"] == ""


def test_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_two_do_not_work_in_one_folder(tmp_path):
    """Of processes with a Python of their own: what they inherit of this one is the console alone, and its lock."""
    run = fewshot(BROKEN)[0]
    first = RunProcess(run, tmp_path, tmp_path, {})
    with pytest.raises(BlockingIOError):
        RunProcess(run, tmp_path, tmp_path, {})
    assert first.wait() == 2
    assert first.reason().startswith("error: command line: no config key NO.SUCH_KEY; the nearest is ")
    again = RunProcess(run, tmp_path, tmp_path, {})
    again.interrupt()
    again.stop()
    assert again.tail().count("$ python train.py") == 1
    assert (tmp_path / run.folder / "console.txt").read_text().count("$ python train.py") == 2


def test_a_folder_that_cannot_be_made_is_a_failure_of_its_run(tmp_path):
    run = fewshot(BROKEN)[0]
    (tmp_path / "handwritten_digits").write_text("")
    status = Status([run], set(), Estimate(), 1)
    Local(tmp_path, tmp_path, slots([], 1, 1)).execute(status)
    assert "handwritten_digits" in status.failed[run]
    assert "Not a directory" in status.failed[run]


def test_a_run_of_another_launcher_is_waited_for(tmp_path):
    run = fewshot(Cell("CoOp", "mini", "handwritten_digits", 1, 1))[0]
    console = tmp_path / run.folder / "console.txt"
    console.parent.mkdir(parents=True)

    def other_launcher(file):
        leave(tmp_path, run, 60.0, backbone="mini")
        file.close()  # and with it the lock

    file = console.open("ab")
    fcntl.flock(file, fcntl.LOCK_EX)
    threading.Timer(0.5, other_launcher, [file]).start()
    status = Status([run], set(), Estimate(), 1)
    Local(tmp_path, tmp_path, slots([], 1, 1)).execute(status)
    assert status.done == {run.folder}
    assert console.read_text() == ""  # nothing was started


def test_a_folder_that_is_deleted_is_a_failure_of_its_run(tmp_path, runs_are_copies):
    gone, other = fewshot(BROKEN)[0], fewshot(replace(BROKEN, seed=2))[0]
    status = Status([gone, other], set(), Estimate(), 1)
    start = status.start

    def start_and_delete(run, progress):
        if run == gone:
            shutil.rmtree(tmp_path / run.folder)
            assert progress() == "starting"
        start(run, progress)

    status.start = start_and_delete
    Local(tmp_path, tmp_path, slots([], 1, 1)).execute(status)
    assert status.failed[gone] == "exit code 2, nothing printed"
    assert status.failed[other].startswith("error: ")


def test_a_run_says_how_far_it_is(tmp_path, runs_are_copies):
    run = fewshot(BROKEN)[0]
    process = RunProcess(run, tmp_path, tmp_path, {})
    process.wait()
    process.offset = process.console.stat().st_size
    assert process.progress() == "starting"
    with process.console.open("a") as file:
        print(
            "epoch [3/10] batch [5/20] time 0.1 (0.1) data 0.0 (0.0) loss 1.2149 (1.3) acc 60 (55) lr 5e-03 "
            "eta 0:02:10",
            file=file,
        )
        file.flush()
        assert process.progress() == "epoch 3/10, batch 5/20, loss 1.21, eta 0:02:10"
        print("Evaluate on the *test* set", file=file, flush=True)
    assert process.progress() == "evaluating"
