"""Splits for when the published split file is absent: always the same, not comparable with published ones."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping

from datasets.fewshot import rank
from datasets.split import Item, Split

_SEED = "own split"


def split_folders(
    image_dir: str, names: Mapping[str, str] | None = None, ignored: Collection[str] = ()
) -> Split:
    """Split ``image_dir/<class>/<image>``: 50 % of each class to train, 20 % to validate and 30 % to test on.

    Args:
        image_dir: holds one folder per class; labels follow their sorted names.
        names: class names of folders that are not named after their class.
        ignored: folders to leave out.
    """
    split = Split([], [], [])
    for label, (folder, files) in enumerate(list_folders(image_dir, ignored)):
        items = rank(
            [Item(f"{folder}/{file}", label, (names or {}).get(folder, folder)) for file in files], _SEED
        )
        train_end = round(0.5 * len(items))
        val_end = train_end + round(0.2 * len(items))
        if not 0 < train_end < val_end < len(items):
            raise ValueError(
                f"{os.path.join(image_dir, folder)} has {len(items)} images, too few for three parts"
            )
        for part, chosen in zip(
            split, (items[:train_end], items[train_end:val_end], items[val_end:]), strict=True
        ):
            part += chosen
    return split


def split_off_val(items: list[Item], ratio: float = 0.2) -> tuple[list[Item], list[Item]]:
    """Split training images into training and validation images, ``ratio`` of each class being the latter."""
    classes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        classes[item.label].append(item)
    train, val = [], []
    for label in sorted(classes):
        ranked = rank(classes[label], _SEED)
        count = round(ratio * len(ranked))
        val += ranked[:count]
        train += ranked[count:]
    return train, val


def list_folders(image_dir: str, ignored: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """The folders in ``image_dir`` and the files in each, all sorted, without those hidden or ``ignored``.

    Raises:
        ValueError: when a folder has no files.
    """
    with os.scandir(image_dir) as entries:
        names = sorted(
            e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name not in ignored
        )
    folders = []
    for name in names:
        with os.scandir(os.path.join(image_dir, name)) as entries:
            files = sorted(e.name for e in entries if not e.name.startswith("."))
        if not files:
            raise ValueError(f"class folder {os.path.join(image_dir, name)} is empty")
        folders.append((name, files))
    return folders
