"""Unpack an archive of whatever structure into the layout that CoOp introduced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tools.preparing.extract import extract
from tools.preparing.place import Place, innermost, move


def unpack(place: Place, archives: Sequence[Path]) -> None:
    """Extract archives beside the data set's folder's content and move what they hold into place when all is there.

    The folders of images are moved last, each at once: a data set that looks complete is.
    """
    origin = place.dataset.origin
    assert origin
    place.folder.mkdir(parents=True, exist_ok=True)
    for rest in place.folder.glob(".extracting-*"):  # of a run that was killed
        shutil.rmtree(rest)
    staging = place.folder / f".extracting-{uuid4().hex}"
    try:
        for number, archive in enumerate(archives):
            extract(archive, staging / str(number))
        for number, inner in enumerate(sorted(staging.rglob(origin.inner)) if origin.inner else []):
            extract(inner, staging / f"inner{number}")
            inner.unlink()
        wanted = [name for name in place.images if not (place.folder / name).is_dir()]
        outermost = {name: path for name in wanted if (path := find_folder(staging, name))}
        found = {name: innermost(path, name) for name, path in outermost.items()}
        alone = find_classes(staging, origin.sizes[0]) if not found and len(place.images) == 1 else None
        if alone:
            found = {place.images[0]: innermost(alone, place.images[0])}
        lacking = [name for name in place.missing_images() if name not in found]
        if lacking:
            top = sorted(path.name for folder in staging.iterdir() for path in folder.iterdir())
            raise FileNotFoundError(
                f"{', '.join(map(str, archives))}: no folder {', '.join(lacking)} in it, but {', '.join(top[:10])}"
            )
        around = {
            parent: None
            for name, path in outermost.items()
            for parent in found[name].parents
            if path.parent in (parent, *parent.parents)
        }
        for parent in around:
            for child in sorted(parent.iterdir()):
                # Draws that somebody left in an archive would be taken for the user's own.
                if child not in around and child not in found.values() and child.name != "split_fewshot":
                    move(child, place.folder / child.name)
        for name, path in found.items():
            move(path, place.folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def find_folder(staging: Path, name: str) -> Path | None:
    """The folder of that name that lies least deep, or None."""
    found = (path for path in staging.rglob(name) if path.is_dir())
    return min(found, key=lambda path: (len(path.parts), path), default=None)


def find_classes(staging: Path, classes: int) -> Path | None:
    """The folder with as many folders as there are classes, or None."""
    folders = (Path(path) for path, names, _ in os.walk(staging) if len(names) == classes)
    return min(folders, key=lambda path: (len(path.parts), path), default=None)
