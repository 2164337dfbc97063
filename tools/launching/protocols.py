"""What a protocol consists of: runs of train.py, each with its arguments and its folder, laid out as in CoOp and MaPLe.

few-shot                 <dataset>/<Trainer>/<cfg>_16shots/seed1      all classes; the source of a transfer, too
zero-shot                <Trainer>/<cfg>/<dataset>
base-to-new              base2new/{train_base,test_new}/<dataset>/shots_16/<Trainer>/<cfg>/seed1
transfer from ImageNet   evaluation/<Trainer>/<cfg>_16shots/<dataset>/seed1    other data sets, ImageNet's variants
transfer from another    evaluation_from_<source>/...
prompt length            prompt_length/<dataset>/shots_16/<Trainer>/<cfg>/nctx4/seed1
overfitting              overfitting/train_base/<dataset>/shots_16/<Trainer>/<cfg>/seed1
                         overfitting/test_{base,new}/.../seed1/epoch5
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import ROOT, shipped
from tools.launching.prompt_length import length_settings

SOURCE = "imagenet"
SHOTS = 16
POINTS = 10  # of an overfitting curve


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


@dataclass(frozen=True)
class Cell:
    """One method on one data set with one seed: what every step starts from.

    ValueError for a method, config or data set that does not exist.
    """

    trainer: str
    config: str
    dataset: str
    seed: int
    shots: int = SHOTS
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shipped.check_config(self.trainer, self.config)
        shipped.check_dataset(self.dataset)
        if self.shots < 1:
            raise ValueError(f"{self.shots} shots: at least one is needed")

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return shipped.learns(self.trainer, self.config)

    def run(self, step: str, folder: str, *settings: object, **of_run: Any) -> Run:
        """A run of this cell; `settings` are the step's own, the user's stand behind them.

        ValueError where one of the user's would undo what the step varies, under a folder that says otherwise.
        """
        own = dict(zip(map(str, settings[::2]), map(str, settings[1::2])))
        own |= {"SEED": str(self.seed), "TRAINER.NAME": self.trainer, "OUTPUT_DIR": folder}
        own |= {"DATASET.NAME": shipped.registered_name(self.dataset)}
        for key, value in zip(self.settings[::2], self.settings[1::2]):
            if own.get(key, value) != value:
                raise ValueError(
                    f"{key} {value}: {step} sets it to {own[key] or 'nothing'}, and its folder says so"
                )
        pairs = tuple(map(str, settings)) + self.settings
        return Run(
            step,
            self.trainer,
            self.config,
            self.dataset,
            self.seed,
            self.shots,
            folder,
            pairs,
            evaluates="tests" in of_run or not self.learns,
            **{**of_run, "tests": of_run.get("tests") if self.learns else None},
        )

    @property
    def place(self) -> str:
        """Its part of the base-to-new folders."""
        return f"{self.dataset}/shots_{self.shots}/{self.trainer}/{self.config}"


def fewshot(cell: Cell) -> list[Run]:
    """Train on a few images of each class, test on all test images."""
    if not cell.learns:
        return zeroshot(cell)
    return [cell.run("fewshot", _model_of(cell, cell.dataset), "DATASET.NUM_SHOTS", cell.shots)]


def zeroshot(cell: Cell) -> list[Run]:
    """Test a method that learns nothing."""
    if cell.learns:
        raise ValueError(f"{cell.trainer} is trained; zeroshot is for methods that are not")
    return [cell.run("zeroshot", f"{cell.trainer}/{cell.config}/{cell.dataset}")]


def base2new_train(cell: Cell) -> list[Run]:
    """Train on the base classes, test on them."""
    folder = f"base2new/train_base/{cell.place}/seed{cell.seed}"
    return [cell.run("base2new_train", folder, *_half(cell, "base"))]


def base2new_test(cell: Cell) -> list[Run]:
    """Test the model of `base2new_train` on the new classes."""
    model = f"base2new/train_base/{cell.place}/seed{cell.seed}"
    folder = f"base2new/test_new/{cell.place}/seed{cell.seed}"
    return [cell.run("base2new_test", folder, *_half(cell, "new"), tests=model)]


def xd_train(cell: Cell) -> list[Run]:
    """Train on the source of a transfer, all classes: the same run as few-shot's."""
    return fewshot(cell)


def transfer_test(cell: Cell, source: str = SOURCE, step: str = "xd_test") -> list[Run]:
    """Test the source's model on another data set."""
    shipped.check_dataset(source)
    if not cell.learns:
        return zeroshot(cell)
    where = "evaluation" if source == SOURCE else f"evaluation_from_{source}"
    folder = f"{where}/{cell.trainer}/{cell.config}_{cell.shots}shots/{cell.dataset}/seed{cell.seed}"
    return [cell.run(step, folder, tests=_model_of(cell, source))]


def prompt_length(cell: Cell, n_ctx: int) -> list[Run]:
    """Train and test with `n_ctx` context tokens, in whichever towers the method has them."""
    lengths = length_settings(cell.trainer, cell.config, n_ctx, cell.settings)
    folder = f"prompt_length/{cell.place}/nctx{n_ctx}/seed{cell.seed}"
    return [cell.run("prompt_length", folder, "DATASET.NUM_SHOTS", cell.shots, *lengths)]


def overfitting(cell: Cell) -> list[Run]:
    """Train on the base classes keeping about ten checkpoints, test each of them on base and new classes."""
    last = max_epoch(cell)
    every = max(1, last // POINTS)
    name = f"{cell.place}/seed{cell.seed}"
    model = f"overfitting/train_base/{name}"
    training = cell.run("overfitting", model, *_half(cell, "base"), "TRAIN.CHECKPOINT_FREQ", every)
    tests = [
        cell.run(
            "overfitting",
            f"overfitting/test_{subset}/{name}/epoch{epoch}",
            *_half(cell, subset),
            tests=model,
            load_epoch=epoch,
        )
        for epoch in sorted({*range(every, last + 1, every), last})
        for subset in ("base", "new")
    ]
    return [training, *tests]


def max_epoch(cell: Cell) -> int:
    """How many epochs a method trains: of the user's settings, or else of its config."""
    given = dict(zip(cell.settings[::2], cell.settings[1::2])).get("OPTIM.MAX_EPOCH")
    if given is not None:
        return int(given)
    epochs = shipped.settings(cell.trainer, cell.config).get("OPTIM", {}).get("MAX_EPOCH")
    if epochs is None:
        raise ValueError(f"{cell.trainer}/{cell.config} has no OPTIM.MAX_EPOCH: nothing is trained")
    return epochs


def _model_of(cell: Cell, dataset: str) -> str:
    return f"{dataset}/{cell.trainer}/{cell.config}_{cell.shots}shots/seed{cell.seed}"


def _half(cell: Cell, subset: str) -> list[object]:
    return ["DATASET.NUM_SHOTS", cell.shots, "DATASET.SUBSAMPLE_CLASSES", subset]
