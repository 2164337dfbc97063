"""The place of a data set in the data root: what belongs there, what is missing, and how it is put there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from datasets.base import SplitDataset
from datasets.files import is_litter, named_disk_errors
from foundation.atomic import atomic_write


@dataclass
class Place:
    """A data set and where it is to lie."""

    name: str
    dataset: type[SplitDataset]
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.dataset.dataset_dir

    @property
    def images(self) -> list[str]:
        """The folders of the data set's folder that hold the images, and what else its archives hold."""
        folders = self.dataset.origin.folders if self.dataset.origin else ()
        return list(folders) or [self.dataset.image_dir]

    @property
    def needed(self) -> list[str]:
        """Those that the images are in; the others serve only to make a split of one's own."""
        return [self.dataset.image_dir] if self.dataset.image_dir in self.images else self.images

    def missing_images(self) -> list[str]:
        return [name for name in self.needed if not (self.folder / name).is_dir()]

    def missing_files(self) -> list[str]:
        """Single files that are not there; ImageNet's class names serve its variants, too."""
        folders = (self.folder, self.root / "imagenet")
        files = self.dataset.origin.files if self.dataset.origin else ()
        return [file for file in files if not any((folder / file).is_file() for folder in folders)]

    @property
    def downloads(self) -> Path:
        """Where fetched files wait."""
        return self.root / ".downloads" / self.name


@contextmanager
def only_one(place: Place) -> Iterator[None]:
    """ValueError while another process prepares the same data set."""
    folder = place.root / ".downloads"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{place.name}.lock"
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError("another process prepares it at this moment") from None
        yield


def move(source: Path, target: Path) -> None:
    """Rename, unless something is there: nothing of the user's is replaced. Within one disk, all at once."""
    if not os.path.lexists(target):
        shutil.move(source, target)


def put(source: Path, target: Path) -> None:
    """Copy a file; under its name it is whole from the first moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with named_disk_errors(target), open(source, "rb") as original, atomic_write(target, "wb") as copy:
        shutil.copyfileobj(original, copy)


def set_aside(path: Path) -> Path:
    """Rename a file to one that nothing looks for, "<name>.replaced" or with a number behind it; returns its path."""
    for number in count(1):
        aside = path.with_name(f"{path.name}.replaced{number if number > 1 else ''}")
        if not os.path.lexists(aside):
            path.rename(aside)
            return aside
    raise AssertionError


def innermost(folder: Path, name: str) -> Path:
    """The folder that holds the images, where `folder`, called `name`, holds nothing but folders around it.

    Who packs a folder that a program unpacked into one of its own name gets name/name.
    """
    while True:
        again = [path for path in folder.rglob(name) if path.is_dir()]
        if again:
            folder = min(again, key=lambda path: (len(path.parts), path))
            continue
        children = [path for path in folder.iterdir() if not is_litter(path.name)]
        if len(children) != 1 or not children[0].is_dir():
            return folder
        folder = children[0]
