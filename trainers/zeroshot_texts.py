"""Class texts of zero-shot CLIP: a baseline, and the reference that several methods stay close to.

Of which texts a class's feature is the mean is the user's choice (``DATASET.CLASS_TEXTS``, ``DATASET.TEMPLATES``), or
else the method's templates.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from yacs.config import CfgNode

from clip import CLIP, encode
from foundation import written_texts
from foundation.errors import WrongInput
from foundation.keys.of_all_runs import of

from . import data_parallel
from .unit import unit

CHUNK = 1024  #: texts that are encoded at once
_SHOWN = 3  # classes in a message


class WrittenTexts:
    """What the user has written in place of a method's templates.

    Attributes:
        texts: by class, as in ``DATASET.CLASS_TEXTS``; empty where none are given.
        templates: ``DATASET.TEMPLATES``.
        used: a method has asked for them.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.file: str = of(cfg, written_texts.CLASS_TEXTS)
        self.texts = written_texts.class_texts(cfg)
        self.templates = list(written_texts.templates(of(cfg, written_texts.TEMPLATES)))
        self.used = False

    @property
    def given(self) -> list[str]:
        """The keys that the user has set."""
        both = {written_texts.CLASS_TEXTS: self.texts, written_texts.TEMPLATES: self.templates}
        return [key for key, found in both.items() if found]

    def of_classes(
        self, classnames: list[str], templates: list[str], underscores: bool = False
    ) -> list[list[str]]:
        """The texts of each of C classes: those of the file, and the user's templates with its name.

        Where the user gives neither, ``templates`` with its name, in which "_" is a space unless ``underscores``.

        Raises:
            ValueError: the file has no text of a class.
        """
        self.used = True
        chosen = self.templates if self.given else templates
        names = classnames if underscores else [name.replace("_", " ") for name in classnames]
        filled = [[text.format(name) for text in chosen] for name in names]
        if not self.texts:
            return filled
        own = {written_texts.plain(name): texts for name, texts in self.texts.items()}
        without = [name for name in classnames if written_texts.plain(name) not in own]
        if without:
            raise WrongInput(
                f"{written_texts.CLASS_TEXTS} {self.file} has no texts of {_some(without)}; it has those of "
                f"{_some(list(self.texts))}"
            )
        return [own[written_texts.plain(name)] + more for name, more in zip(classnames, filled)]

    def check_lengths(self, clip: CLIP, classnames: list[str], texts: list[list[str]]) -> None:
        """ValueError where a text of the file is longer than the text tower's context, with the first and how many."""
        if not self.texts:
            return
        most = clip.text.context_length
        lengths = (
            (name, text, len(encode(text)) + 2) for name, own in zip(classnames, texts) for text in own
        )
        long = [(name, text, length) for name, text, length in lengths if length > most]
        if long:
            name, text, length = long[0]
            more = f" ({len(long) - 1} more are longer, too)" if len(long) > 1 else ""
            shown = text if len(text) <= 60 else f"{text[:60]}..."
            raise WrongInput(
                f"{written_texts.CLASS_TEXTS} {self.file}: the text tower holds {most} tokens, and "
                f"{shown!r} of {name!r} has {length}{more}: shorten what is longer"
            )

    def tell(self, method: str, dataset: str, classnames: Iterable[str]) -> None:
        """Print which of the user's texts and templates are used, and which not.

        Args:
            classnames: all of the data set.
        """
        if not self.given:
            return
        if not self.used:
            print(
                f"Warning: {method} takes no notice of {' and '.join(self.given)}: it learns all its texts, and has no "
                "zero-shot ones beside them"
            )
            return
        print(f"Zero-shot texts: those of {' and '.join(self.given)}")
        known = set(map(written_texts.plain, classnames))
        if others := [name for name in self.texts if written_texts.plain(name) not in known]:
            print(f"Warning: {self.file} has texts of what is no class of {dataset}: {_some(others)}")


@torch.no_grad()
def mean_features(
    clip: CLIP, texts: list[list[str]], unit_each: bool = True, unit_mean: bool = True
) -> Tensor:
    """(C, d) features of C classes: of each the mean over its texts.

    Args:
        texts: of each class at least one.
        unit_each: scale the feature of every text to unit norm before the mean, as CLIP's authors do (notebook of the
            CLIP repository).
        unit_mean: then scale the mean to unit norm.
    """
    features = _features(clip, texts, unit_each)
    return unit(features) if unit_mean else features


def _features(clip: CLIP, texts: list[list[str]], unit_each: bool) -> Tensor:
    if len(texts) < data_parallel.count():
        return _encoded(clip, texts, unit_each)
    own = data_parallel.share(len(texts))
    return data_parallel.gather(_encoded(clip, texts[own.start : own.stop], unit_each), len(texts))


def _encoded(clip: CLIP, texts: list[list[str]], unit_each: bool) -> Tensor:
    """In one process, in chunks: the first texts of some classes, then their second ones ..."""
    chunks = []
    for start in range(0, len(texts), CHUNK):
        part = texts[start : start + CHUNK]
        counts = torch.tensor([len(own) for own in part])
        total = torch.zeros(())
        for number in range(int(counts.max())):
            rows = torch.nonzero(counts > number)[:, 0]
            feature = clip.text.encode([part[row][number] for row in rows]).float()
            feature = unit(feature) if unit_each else feature
            if number == 0:
                total = torch.zeros_like(feature)
            total.index_add_(0, rows.to(total.device), feature)
        chunks.append(total / counts[:, None].to(total))
    return torch.cat(chunks)


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
