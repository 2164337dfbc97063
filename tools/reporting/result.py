"""One result: the test of one model, and what the method is called that it is of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.disclosures import disclosures_of, learns


@dataclass
class Result:
    """One test of one model.

    Attributes:
        protocol: its name.
        trainer: its name.
        split: of the images that were tested, test or val.
        seed, shots: of the model's training; 0 shots where nothing is learned.
        source: data set that a transferred model was trained on, "" otherwise.
        at: on the protocol's axis: context tokens of prompt_length, epoch of overfitting; 0 where there is none.
        subset: base, new or all.
        record: all of it.
        training: the record of the model's training, which is `record` itself unless a model was loaded.
        variant: the settings that tell it from other results of the trainer, where there are any.
    """

    path: Path
    protocol: str
    trainer: str
    backbone: str
    split: str
    dataset: str
    seed: int
    shots: int
    source: str
    at: int
    subset: str
    accuracy: float
    record: dict[str, Any] = field(repr=False)
    training: dict[str, Any] = field(repr=False)
    variant: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The trainer, with all settings that tell it from others of the same trainer."""
        return method_name(self.trainer, self.variant)

    @property
    def learns(self) -> bool:
        return learns(self.record)

    @property
    def disclosures(self) -> set[str]:
        """What a reader of its numbers must know, of the test and of its model's training."""
        return disclosures_of(self.record) | disclosures_of(self.training)

    @property
    def cell(self) -> tuple[Any, ...]:
        """What a table has one value for."""
        return (
            self.protocol,
            self.method,
            self.backbone,
            self.split,
            self.dataset,
            self.seed,
            self.shots,
            self.source,
            self.at,
            self.subset,
        )


def method_name(trainer: str, variant: dict[str, Any]) -> str:
    """ "CoOp", or "CoOp (LR 0.1, CTX_INIT 'a photo of a')"; a key's section only where two keys end alike."""
    ends = [key.rpartition(".")[2] for key in variant]
    said = [
        f"{key if ends.count(end) > 1 else end} {_shown(value)}"
        for (key, value), end in zip(variant.items(), ends)
    ]
    return f"{trainer} ({', '.join(said)})" if said else trainer


def _shown(value: Any) -> str:
    """A setting's value on one line, "-" where a record does not have it."""
    if value is None:
        return "-"
    text = " ".join(str(value).split())
    return f"'{text}'" if isinstance(value, str) and (" " in text or not text) else text
