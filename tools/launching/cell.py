"""One cell of a grid: a method on a data set with a seed, and the runs that a step of a protocol makes of it."""

from dataclasses import dataclass
from typing import Any

from runs import shipped
from tools.launching.run import Run

SHOTS = 16


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
