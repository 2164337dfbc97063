"""The files of docs/adding-a-method.md, put where a reader puts them, pass the page's own last step and train."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import copies
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "adding-a-method.md"
#: A path in the text, and the code block that follows it.
FILE = r"`((?:trainers|configs)/[\w/]+\.(?:py|yaml))`[^`]*?```(?:python|yaml)\n(.*?)```"
GENERATED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")


def left_out(folder: str, names: list[str]) -> set[str]:
    """What no checkout has: what was generated, and at its top environments, data and results."""
    own = {"build", "data", "output"} if Path(folder) == ROOT else set()
    return {*GENERATED(folder, names), *own.intersection(names)}


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return copies.run([sys.executable, *words], cwd=checkout, env=environment, apart=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with the page's files, unchanged, and the page of settings made anew."""
    copy = tmp_path_factory.mktemp("clone") / "checkout"
    shutil.copytree(ROOT, copy, ignore=left_out)
    files = re.findall(FILE, PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [name for name, _ in files] == [
        "trainers/crossmodal.py",
        "configs/trainers/CrossModal/mini.yaml",
        "configs/trainers/CrossModal/vit_b16.yaml",
    ]
    for name, text in files:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    made = run(copy, "-m", "runs.key_list")
    assert "TRAINER.CROSSMODAL.TEXT_WEIGHT" in made.stdout, made.stderr
    (copy / "docs" / "keys.md").write_text(made.stdout, encoding="utf-8")
    return copy


def test_the_method_is_short(checkout: Path) -> None:
    assert len((checkout / "trainers" / "crossmodal.py").read_text().splitlines()) <= 60


def test_the_last_step_of_the_page_is_green(checkout: Path) -> None:
    """What scripts/test.sh does: lint, and of the tests that step 5 names those that look at the new method."""
    for words in (["check", "."], ["format", "--check", "."]):
        lint = run(checkout, "-m", "ruff", *words)
        assert lint.returncode == 0, lint.stdout
    tests = ["tests/trainers/test_configs.py", "tests/trainers/test_every_method.py", "tests/test_configs.py"]
    tested = run(
        checkout, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "CrossModal", *tests
    )
    assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr


def accuracy(checkout: Path, trainer: str, *options: str) -> float:
    folder = checkout / "output" / trainer
    command = ["--root", "data", "--seed", "1", "--trainer", trainer, "--output-dir", str(folder)]
    command += ["--dataset-config-file", "configs/datasets/handwritten_digits.yaml"]
    command += ["--config-file", f"configs/trainers/{trainer}/mini.yaml", *options, "DATASET.NUM_SHOTS", "4"]
    ran = run(checkout, "train.py", *command)
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / "result.json").read_text())["metrics"]["accuracy"]


def test_example_learns(checkout: Path) -> None:
    zeroshot = accuracy(checkout, "ZeroshotCLIP", "--eval-only")
    assert accuracy(checkout, "CrossModal") > zeroshot + 5
