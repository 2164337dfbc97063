"""A grid on a real SLURM of one machine, with a job that is taken its place away."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import copies
from tests.interruption import at_touch

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons need root"),
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="SLURM is not installed (Debian: slurm-wlm, munge)"
    ),
]
pytest.importorskip("submitit")
CLUSTER = Path(__file__).with_name("cluster.sh")
SETTINGS = ["TRAIN.RESUME_INTERVAL", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 5, "OPTIM.MAX_EPOCH", 5]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run(["bash", CLUSTER, "start", folder], capture_output=True, text=True)
    if started.returncode:  # not every container lets the daemons live
        pytest.skip(f"SLURM does not start here: {started.stderr.strip()}")
    yield folder
    subprocess.run(["bash", CLUSTER, "stop", folder], check=True)


@pytest.fixture
def cluster(started, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(started / "slurm.conf"))


def wait_for(condition, seconds=900):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("did not happen")


def launch(root, data_root, output, *words, begin=subprocess.Popen, environment=None):
    command = [sys.executable, root / "tools" / "launch.py", "fewshot", "--trainers", "CoOp/mini"]
    command += ["--datasets", "handwritten_digits", "--root", data_root, "--output", output, *words]
    command += ["--opts", *SETTINGS]
    return begin(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=output.parent,
        env=environment,
    )


def on_slurm(*words):
    return ["--executor", "slurm", "--gpus-per-job", 0, "--memory", 1, "--threads", 1, *words]


def test_a_grid_through_submitit_with_a_requeued_job(root, data_root, tmp_path, cluster, monkeypatch):
    output = tmp_path / "out"
    cells = ["--seeds", 1, 2, "--shots", 1]
    name = "handwritten_digits/CoOp/mini_1shots/seed2"
    held = tmp_path / "held"
    environment = at_touch(6, output / name, "hold", held, "resume.pth.tar")
    process = launch(root, data_root, output, *cells, *on_slurm(), environment=environment)

    # Take its place away from a run that has something to continue from.
    wait_for(held.exists)
    queue = subprocess.run(
        ["squeue", "--noheader", "--states=RUNNING", "--array", "--format=%i"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    # Jobs are in the order of the grid: seeds 1, 2.
    (job,) = [job for job in queue if job.endswith("_1")]
    log = output / "slurm" / f"{job}_0_log.err"
    # scancel would signal once more, finding a job that cannot be altered now: the one that it has just moved.
    with subprocess.Popen(["scancel", "--signal=USR2", job]) as signalling:
        wait_for(lambda: log.exists() and "Caught signal SIGUSR2" in log.read_text())
        signalling.kill()

    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, out + err
    assert "2 jobs submitted" in out
    assert "All done (2 runs)" in out
    console = (output / name / "console.txt").read_text()
    assert console.count("$ python train.py") == 2
    assert console.count("(will resume training)") == 1

    # The same as undisturbed, here.
    local = tmp_path / "local"
    monkeypatch.setattr("tools.launching.process.subprocess", copies.IN_PLACE)  # which starts the run
    words = ["--seeds", 2, "--shots", 1, "--gpus", "--jobs", 1, "--threads", 1]
    here = launch(root, data_root, local, *words, begin=copies.start)
    out, err = here.communicate(timeout=900)
    assert here.returncode == 0, out + err
    records = [json.loads((folder / name / "result.json").read_text()) for folder in (output, local)]
    assert records[0]["metrics"] == records[1]["metrics"]


def test_what_fails_on_a_node_is_listed(root, data_root, tmp_path, cluster):
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out"
    words = ["--seeds", 1, "--shots", 1, "--datasets", "eurosat"]
    process = launch(root, tmp_path / "empty", output, *words, *on_slurm())
    out, err = process.communicate(timeout=900)
    assert (process.returncode, err) == (1, "")
    assert "1 run failed:" in out
    assert re.search(r"fewshot CoOp/mini eurosat 1 shots seed 1: error: .*\(log: .*/out/slurm/", out)


def test_an_unknown_partition_is_one_line(root, data_root, tmp_path, cluster):
    process = launch(root, data_root, tmp_path / "out", *on_slurm("--partition", "atlantis"))
    out, err = process.communicate(timeout=900)
    assert process.returncode == 2, out + err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: --executor slurm: sbatch: error: invalid partition")
