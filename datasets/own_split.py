"""Splits for when the published split file is absent: always the same, not comparable with published ones."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from datasets.fewshot import rank
from datasets.files import is_litter
from datasets.split import Item, Split

_SEED = "own split"


def split_folders(
    image_dir: str, names: Mapping[str, str] | None = None, ignored: Collection[str] = ()
) -> Split:
    """Split ``image_dir/<class>/<image>`` three ways, as ``split_three_ways`` does.

    Args:
        image_dir: holds one folder per class; labels follow their sorted names.
        names: class names of folders that are not named after their class.
        ignored: folders to leave out.
    """
    folders = list_folders(image_dir, ignored)
    return split_three_ways(
        Item(f"{folder}/{file}", label, (names or {}).get(folder, folder))
        for label, (folder, files) in enumerate(folders)
        for file in files
    )


def split_three_ways(items: Iterable[Item], seed: int | str = _SEED) -> Split:
    """Split images: 50 % of each class to train, 20 % to validate and 30 % to test on.

    Args:
        items: all images.
        seed: what the images of a class are ranked with (``datasets.fewshot.rank``).

    Raises:
        ValueError: when a class has too few images for that.
    """
    split = Split([], [], [])
    for ranked in _ranked_classes(items, seed):
        train_end = round(0.5 * len(ranked))
        val_end = train_end + round(0.2 * len(ranked))
        if not 0 < train_end < val_end < len(ranked):
            raise ValueError(
                f"class {ranked[0].classname!r} has {len(ranked)} images, too few for three parts"
            )
        split.train.extend(ranked[:train_end])
        split.val.extend(ranked[train_end:val_end])
        split.test.extend(ranked[val_end:])
    return split


def split_off_val(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """Split training images into training and validation images, 20 % of each class being the latter."""
    train, val = [], []
    for ranked in _ranked_classes(items, _SEED):
        count = round(0.2 * len(ranked))
        val += ranked[:count]
        train += ranked[count:]
    return train, val


def _ranked_classes(items: Iterable[Item], seed: int | str) -> Iterator[list[Item]]:
    classes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        classes[item.label].append(item)
    return (rank(classes[label], seed) for label in sorted(classes))


def list_folders(image_dir: str, ignored: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """The folders in ``image_dir`` and the files in each, all sorted, without those hidden or ``ignored``.

    Raises:
        ValueError: when a folder has no files.
    """
    with os.scandir(image_dir) as entries:
        names = sorted(
            e.name for e in entries if e.is_dir() and not is_litter(e.name) and e.name not in ignored
        )
    folders = []
    for name in names:
        with os.scandir(os.path.join(image_dir, name)) as entries:
            files = sorted(e.name for e in entries if not is_litter(e.name))
        if not files:
            raise ValueError(f"class folder {os.path.join(image_dir, name)} is empty")
        folders.append((name, files))
    return folders
