"""The demo, with one shot, one epoch and one data set: every method of it, its table and its plot."""

import os
from pathlib import Path

from tests import copies

METHODS = ("ZeroshotCLIP", "CoOp", "MMTPA")


def run_demo(root: Path, tmp_path: Path) -> str:
    command = ["bash", root / "scripts" / "demo.sh", "--output", "out", "--data", "handwritten_digits"]
    settings = ["DATASET.ROOT", tmp_path / "data", "DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1"]
    ran = copies.run_script([*command, *settings], cwd=tmp_path, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


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
