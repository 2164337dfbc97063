"""The place of a data set in the data root: what belongs there, what is missing, and how it is put there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from datasets.base import SplitDataset


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
    copy = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        shutil.copyfile(source, copy)
        os.replace(copy, target)
    finally:
        copy.unlink(missing_ok=True)
