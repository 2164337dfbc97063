"""What a test was of, for a protocol to tell whether it is one of its results, and where it then stands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.disclosures import learns
from tools.launching.state import setting


@dataclass(frozen=True)
class Tested:
    """The record of a test beside that of its model's training, which is the same unless a model was loaded.

    Where nothing is known of a loaded model's training, `training` is `record`, too.
    """

    path: Path
    record: dict[str, Any] = field(repr=False)
    training: dict[str, Any] = field(repr=False)

    @property
    def learns(self) -> bool:
        """Whether training images decide what is tested."""
        return learns(self.record)

    @property
    def evaluates(self) -> bool:
        """Whether it only tests."""
        return self.record["kind"] == "eval"

    @property
    def without_training(self) -> bool:
        """Whether a model was loaded of whose training nothing is known."""
        return self.learns and self.evaluates and self.training is self.record

    @property
    def subset(self) -> str:
        """The classes that were tested: all, base or new."""
        return _subset(self.record)

    @property
    def trained_subset(self) -> str:
        """The classes that the model was trained on."""
        return _subset(self.training)

    @property
    def at_home(self) -> bool:
        """Whether a model of all classes was tested on these, or one of the base classes on these or the new ones.

        What learns nothing is at home everywhere; a model of which nothing is known is taken to be of base classes.
        """
        if not self.learns or self.without_training:
            return True
        same = self.training["dataset"] == self.record["dataset"]
        pairs = {("all", "all"), ("base", "base"), ("base", "new")}
        return same and (self.trained_subset, self.subset) in pairs

    @property
    def among_all(self) -> bool:
        """Whether a model of the base classes was tested on all classes of the same data set at once."""
        if not self.learns or self.without_training:
            return False
        same = self.training["dataset"] == self.record["dataset"]
        return same and (self.trained_subset, self.subset) == ("base", "all")


@dataclass(frozen=True)
class Place:
    """Where a test stands among the results of its protocol.

    Attributes:
        at: on the axis of the protocol, where it has one: context tokens, epochs.
        source: data set that a transferred model was trained on.
        dataset: what its data set is called; "" for its own name.
        counts: False for what belongs to the protocol, but is not a result of it.
    """

    at: int = 0
    source: str = ""
    dataset: str = ""
    counts: bool = True


def _subset(record: dict[str, Any]) -> str:
    return setting(record["config"], "DATASET.SUBSAMPLE_CLASSES") or "all"
