"""The two halves of the classes in the base-to-new protocol (Zhou et al., CVPR 2022, CoCoOp)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from datasets.split import Split

SUBSETS = ("all", "base", "new")


def subsample_classes(split: Split, subset: str) -> Split:
    """Keep all classes, the base classes or the new ones, with labels counted from 0.

    Of n classes, the first ceil(n / 2) in the order of their labels are base, the others new.

    Raises:
        ValueError: when ``subset`` is not "all", "base" or "new", or when one class is to be halved.
    """
    if subset not in SUBSETS:
        raise ValueError(f"DATASET.SUBSAMPLE_CLASSES is {subset!r}; it must be one of {', '.join(SUBSETS)}")
    if subset == "all":
        return split
    base, new = halves({item.label for item in split.train or split.test})
    if not new:
        raise ValueError(f"DATASET.SUBSAMPLE_CLASSES is {subset!r}, but there is only one class")
    chosen = base if subset == "base" else new
    if len(chosen) == 1:
        print(
            f"Warning: the {subset} half of {len(base + new)} classes is one class, of which every image is recognised"
        )
    new_label = {label: i for i, label in enumerate(chosen)}
    return Split(
        *(
            [item._replace(label=new_label[item.label]) for item in part if item.label in new_label]
            for part in split
        )
    )


def halves(labels: Iterable[int]) -> tuple[list[int], list[int]]:
    """The labels of the base and of the new classes, of n labels the first ceil(n / 2) and the others."""
    ordered = sorted(set(labels))
    half = math.ceil(len(ordered) / 2)
    return ordered[:half], ordered[half:]
