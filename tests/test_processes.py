"""train.py in several processes, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed

from runs.record import read_record
from tests import copies
from tests.conftest import ROOT
from tests.train.running import changed
from tests.trainers.harness import assert_close

#: Runs train.py after a change in one of the processes.
ONE_IS_OTHER = """
import os, runpy, signal, sys
sys.path.insert(0, os.getcwd())
if os.environ["RANK"] == "1":
    {change}
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""
DIES = """
    from dassl.engine import TrainerBase
    TrainerBase.before_epoch = lambda trainer: trainer.epoch == 1 and os.kill(os.getpid(), signal.SIGKILL)
"""


def errors_of_copies(count: int, script: Path, arguments: list[object]) -> list[str]:
    """As `in_processes`, the lines on stderr; the processes are copies of this one, which stands for torchrun."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    about |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    started = []
    for rank in range(count):
        own = {name: str(value) for name, value in {**about, "RANK": rank, "LOCAL_RANK": rank}.items()}
        words, pipe = [sys.executable, script, *arguments], subprocess.PIPE
        started.append(copies.start(words, cwd=ROOT, env={**os.environ, **own}, stdout=pipe, stderr=pipe))
    ended = [process.communicate(600)[1] for process in started]
    assert all(process.returncode for process in started)
    lines = [line for err in ended for line in err.splitlines()]
    return [line for line in lines if line.startswith(("error: ", "interrupted"))]


def in_processes(count: int, root: Path, script: Path, arguments: list[object]) -> tuple[str, list[str]]:
    """What the run prints, and the lines on stderr that are ours, not torchrun's own report."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    words = [*start, str(script), *map(str, arguments)]
    run = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=600)
    ours = [line for line in run.stderr.splitlines() if line.startswith(("error: ", "interrupted"))]
    assert bool(ours) == bool(run.returncode), run.stderr
    return run.stdout, ours


def prompts(folder: Path) -> torch.Tensor:
    [path] = folder.glob("*/model.pth.tar-2")
    return torch.load(path, weights_only=True)["state_dict"]["context.ctx"]


def same_metrics(one: dict[str, Any], other: dict[str, Any]) -> None:
    """All figures of one record: those of probabilities up to rounding, all others exactly those of the other one."""
    for record in (one, other):
        images = record["metrics"]["images"]
        for part in ("probabilities", "temperature"):
            found = record["metrics"].get(part) or {"reliability": []}
            assert sum(of_bin["images"] for of_bin in found.pop("reliability")) in (0, images)
            found.pop("source", None)
    for name, value in one["metrics"].items():
        assert other["metrics"][name] == (
            pytest.approx(value, rel=1e-3) if isinstance(value, dict) else value
        )


@pytest.fixture
def arguments(short_run) -> list[object]:
    """A run whose batches two processes share unequally; of its three test batches, one has none in the end."""
    return [*short_run, "DATALOADER.TEST.BATCH_SIZE", 200, "TRAIN.RESUME_INTERVAL", 0.0]


def test_they_leave_what_one_leaves(root, run_train, arguments, tmp_path):
    """The several evaluate in chunks of classes as well, and report the same three best ones."""
    arguments = [*arguments, "TEST.TOP_K", 3]
    assert run_train(*arguments).code == 0
    several = [*changed(arguments, output_dir=tmp_path / "several"), "TEST.CLASS_CHUNK", 4]
    printed, _ = in_processes(2, root, root / "train.py", several)
    assert printed.count("=> result") == 1  # one of them prints

    one, two = read_record(tmp_path / "run"), read_record(tmp_path / "several")
    assert one["metrics"]["temperature"]["images"] == 10
    assert two["metrics"].pop("temperature") is None  # whose fit needs the logits of all classes
    same_metrics(two, one)
    assert one["metrics"]["accuracy"] < one["metrics"]["top3_accuracy"] < 100
    assert (one["hardware"]["processes"], two["hardware"]["processes"]) == (1, 2)
    assert_close(prompts(tmp_path / "several"), prompts(tmp_path / "run"), 1e-5)

    def names(folder: str) -> set[str]:
        return {path.name for path in (tmp_path / folder).rglob("*") if "tfevents" not in path.name}

    assert names("several") == names("run")


def test_a_lost_process_is_named_and_the_run_continues_in_another_number(run_train, arguments, tmp_path):
    assert run_train(*arguments).code == 0
    script = tmp_path / "dies.py"
    script.write_text(ONE_IS_OTHER.format(change=DIES.strip()))
    unfinished = changed(arguments, output_dir=tmp_path / "lost")
    errors = errors_of_copies(3, script, unfinished)
    assert errors == ["error: process 1 of 3 lost; the same command continues the run"]
    assert (tmp_path / "lost" / "resume.pth.tar").is_file()

    assert "Previous epoch: 1" in run_train(*unfinished).out
    same_metrics(read_record(tmp_path / "lost"), read_record(tmp_path / "run"))
    assert_close(prompts(tmp_path / "lost"), prompts(tmp_path / "run"), 1e-5)


def test_processes_that_do_different_runs_are_named(arguments, tmp_path):
    script = tmp_path / "other.py"
    script.write_text(ONE_IS_OTHER.format(change="sys.argv += ['OPTIM.LR', '0.5']"))
    errors = errors_of_copies(2, script, arguments)
    assert len(errors) == 1
    assert errors[0].startswith("error: process 1 differs from process 0: OPTIM.LR: ")
    assert not (tmp_path / "run").exists()
