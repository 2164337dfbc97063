"""The example of docs/adding-a-method.md, put where a reader would put it, trains and beats zero-shot CLIP."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code with the example's two files added."""
    for folder in (
        "alignment",
        "clip",
        "configs",
        "dassl",
        "datasets",
        "foundation",
        "runs",
        "tools",
        "trainers",
    ):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tmp_path)
    text = (ROOT / "docs" / "adding-a-method.md").read_text()
    (code,), (config,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "yaml"))
    assert len(code.splitlines()) <= 60
    (tmp_path / "trainers" / "taskres.py").write_text(code)
    (tmp_path / "configs" / "trainers" / "TaskRes").mkdir()
    (tmp_path / "configs" / "trainers" / "TaskRes" / "mini.yaml").write_text(config)
    return tmp_path


def accuracy(checkout: Path, trainer: str, *options: str) -> float:
    folder = checkout / "output" / trainer
    command = ["--root", "data", "--seed", "1", "--trainer", trainer, "--output-dir", str(folder)]
    command += ["--dataset-config-file", "configs/datasets/handwritten_digits.yaml"]
    command += ["--config-file", f"configs/trainers/{trainer}/mini.yaml", *options, "DATASET.NUM_SHOTS", "4"]
    run = subprocess.run(
        [sys.executable, "train.py", *command], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "result.json").read_text())["metrics"]["accuracy"]


def test_example_learns(checkout: Path) -> None:
    zeroshot = accuracy(checkout, "ZeroshotCLIP", "--eval-only")
    assert accuracy(checkout, "TaskRes") > zeroshot + 5
