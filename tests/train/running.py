"""How the tests of train.py run it."""

import subprocess
import sys
from pathlib import Path

from tests import copies


def changed(arguments: list[object], **replacements: object) -> list[object]:
    """The arguments with the value behind each named option, or key, replaced."""
    arguments = list(arguments)
    for name, value in replacements.items():
        option = "--" + name.replace("_", "-")
        arguments[arguments.index(option) + 1] = value
    return arguments


def on_eurosat(arguments: list[object], root: Path) -> list[object]:
    return changed(arguments, root=root, dataset_config_file="configs/datasets/eurosat.yaml")


def run_program(
    root: Path,
    arguments: list[object],
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    apart: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run train.py as a program; ``apart`` from what this process has imported of this checkout."""
    words = [sys.executable, str(root / "train.py"), *map(str, arguments)]
    return copies.run(words, cwd=cwd or root, env=env, apart=apart)


def everything_in(folder: Path) -> dict[str, bytes]:
    """All files, but for tensorboard's, which are written when they like."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
