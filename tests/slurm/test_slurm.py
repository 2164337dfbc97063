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

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons need root"),
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="SLURM is not installed (Debian: slurm-wlm, munge)"
    ),
]
pytest.importorskip("submitit")
CLUSTER = Path(__file__).with_name("cluster.sh")
SETTINGS = ["TRAIN.RESUME_INTERVAL", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 5, "OPTIM.MAX_EPOCH"]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    folder = tmp_path / "slurm"
    subprocess.run(["bash", CLUSTER, "start", folder], check=True, timeout=60)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    yield folder
    subprocess.run(["bash", CLUSTER, "stop", folder], check=True, timeout=60)


def wait_for(condition, seconds=200):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("did not happen")


def launch(root, data_root, output, *words, epochs=1):
    command = [sys.executable, root / "tools" / "launch.py", "fewshot", "--trainers", "CoOp/mini"]
    command += ["--datasets", "handwritten_digits", "--root", data_root, "--output", output, *words]
    command += ["--opts", *SETTINGS, epochs]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent
    )


def on_slurm(*words):
    return ["--executor", "slurm", "--gpus-per-job", 0, "--memory", 1, "--threads", 1, *words]


def test_a_grid_through_submitit_with_a_requeued_job(root, data_root, tmp_path, cluster):
    output = tmp_path / "out"
    cells = ["--seeds", 1, 2, 3, "--shots", 1, 2]
    process = launch(root, data_root, output, *cells, *on_slurm(), epochs=150)

    # Take its place away from a run that has something to continue from.
    begun = wait_for(lambda: next(iter(output.rglob("resume.pth.tar")), None)).parent
    name = begun.relative_to(output)
    queue = subprocess.run(
        ["squeue", "--noheader", "--states=RUNNING", "--array", "--format=%i"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    # Jobs are in the order of the grid: one shot with seeds 1, 2, 3, then two shots.
    shots, seed = map(int, re.fullmatch(r".*_(\d)shots/seed(\d)", str(name)).groups())
    (job,) = [job for job in queue if job.endswith(f"_{(shots - 1) * 3 + seed - 1}")]
    log = output / "slurm" / f"{job}_0_log.err"
    # scancel would signal once more, finding a job that cannot be altered now: the one that it has just moved.
    with subprocess.Popen(["scancel", "--signal=USR2", job]) as signalling:
        wait_for(lambda: log.exists() and "Caught signal SIGUSR2" in log.read_text())
        signalling.kill()

    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert "6 jobs submitted" in out
    assert "All done (6 runs)" in out
    console = (begun / "console.txt").read_text()
    assert console.count("$ python train.py") == 2
    assert console.count("(will resume training)") == 1

    # The same as undisturbed, here.
    local = tmp_path / "local"
    here = launch(
        root, data_root, local, "--seeds", seed, "--shots", shots, "--gpus", "--jobs", 1, epochs=150
    )
    out, err = here.communicate(timeout=200)
    assert here.returncode == 0, out + err
    records = [json.loads((folder / name / "result.json").read_text()) for folder in (output, local)]
    assert records[0]["metrics"] == records[1]["metrics"]


def test_what_fails_on_a_node_is_listed(root, data_root, tmp_path, cluster):
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out"
    words = ["--seeds", 1, "--shots", 1, "--datasets", "eurosat"]
    process = launch(root, tmp_path / "empty", output, *words, *on_slurm())
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (1, "")
    assert "1 run failed:" in out
    assert re.search(r"fewshot CoOp/mini eurosat 1 shots seed 1: error: .*\(log: .*/out/slurm/", out)


def test_an_unknown_partition_is_one_line(root, data_root, tmp_path, cluster):
    process = launch(root, data_root, tmp_path / "out", *on_slurm("--partition", "atlantis"))
    out, err = process.communicate(timeout=200)
    assert process.returncode == 2, out + err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: --executor slurm: sbatch: error: invalid partition")
