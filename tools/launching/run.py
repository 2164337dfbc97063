"""One run of a protocol: a call of train.py with its arguments and its folder."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runs import ROOT


@dataclass(frozen=True)
class Run:
    """One call of train.py.

    Attributes:
        step: the script that makes it, e.g. "base2new_test".
        folder: its output folder, below the common one.
        settings: KEY VALUE pairs.
        tests: the folder of the run whose model it tests; None where it trains, or where nothing is learned.
        load_epoch: of the model to test, None for the final one.
        evaluates: it only tests.
        search: what it has to do with a search for settings, as JSON (see runs/search.py); "" for nothing.
        remark: what tells it from the step's other runs of the same cell, in words.
    """

    step: str
    trainer: str
    config: str
    dataset: str
    seed: int
    shots: int
    folder: str
    settings: tuple[str, ...]
    tests: str | None = None
    load_epoch: int | None = None
    evaluates: bool = False
    remark: str = ""
    search: str = ""

    def command(self, data: Path, output: Path) -> list[str]:
        """The command line, to be run in the checkout."""
        words = [sys.executable, "train.py", "--root", shown(data), "--seed", str(self.seed)]
        words += ["--trainer", self.trainer]
        words += ["--dataset-config-file", f"configs/datasets/{self.dataset}.yaml"]
        words += ["--config-file", f"configs/trainers/{self.trainer}/{self.config}.yaml"]
        words += ["--output-dir", shown(output / self.folder)]
        if self.evaluates:
            words += ["--eval-only"]
        if self.tests:
            words += ["--model-dir", shown(output / self.tests)]
        if self.load_epoch is not None:
            words += ["--load-epoch", str(self.load_epoch)]
        return words + list(self.settings)


def shown(path: Path) -> str:
    """`path` from the checkout's point of view: relative where it lies inside, else absolute."""
    path = path.expanduser().absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def as_typed(command: Sequence[str]) -> str:
    """A command line as a person would type it."""
    return shlex.join(["python", *command[1:]])
