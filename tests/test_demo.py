"""The demo, with one shot, one epoch and one data set: every method of it, its table and its plot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("ZeroshotCLIP", "CoOp", "MMTPA")


def run_demo(root: Path, tmp_path: Path) -> str:
    settings = ["DATASET.ROOT", str(tmp_path / "data"), "DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1"]
    ran = subprocess.run(
        [
            "bash",
            str(root / "scripts" / "demo.sh"),
            "--output",
            "out",
            "--data",
            "handwritten_digits",
            *settings,
        ],
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.skipif(
    not list(Path(sys.prefix).glob(".mmprompt-installed*")),
    reason="scripts/test.sh has not set this environment up",
)
def test_the_demo_runs_and_runs_again_at_once(root, tmp_path):
    first = run_demo(root, tmp_path)
    for method in METHODS:
        assert (tmp_path / "out" / "handwritten_digits" / method / "result.json").is_file()
    assert (tmp_path / "out" / "report" / "fewshot.png").is_file()
    table = first[first.index("Few-shot learning, mini\n") :]
    assert all(method in table for method in METHODS)
    assert "toy model" in table
    assert "Installing" not in first

    second = run_demo(root, tmp_path)
    assert second.count("Already finished: ") == 3
    assert "Evaluate" not in second
    assert second[second.index("Few-shot learning, mini\n") :] == table
