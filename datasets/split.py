"""CoOp's split format (``split_zhou_<Name>.json``) and what must hold for a split.

The file is ``{"train": [[path, label, class name], ...], "val": [...], "test": [...]}`` with paths relative
to the image folder. Source: the code of Zhou et al., Learning to Prompt for Vision-Language Models, 2022.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections import defaultdict
from typing import NamedTuple

from datasets.files import write_atomically
from foundation.text import read_json

PARTS = ("train", "val", "test")


class Item(NamedTuple):
    """One image: its path below the image folder (with ``/``), its label counted from 0, its class name."""

    path: str
    label: int
    classname: str


class Split(NamedTuple):
    """The three parts of a data set. ``val`` may be empty; a data set for testing only has no ``train``."""

    train: list[Item]
    val: list[Item]
    test: list[Item]


def load_split(path: str) -> Split:
    """Read a split file; a ValueError names the file and what is wrong with it."""
    content = read_json(path)
    if not isinstance(content, dict) or set(content) != set(PARTS):
        raise ValueError(f"{path} is not a split file: its keys must be train, val and test")
    for part in PARTS:
        if not isinstance(content[part], list):
            raise ValueError(f"{path} is not a split file: {part!r} must be a list")
    return Split(
        *([_item(row, f"{path}, {part}[{i}]") for i, row in enumerate(content[part])] for part in PARTS)
    )


def save_split(split: Split, path: str) -> None:
    """Write ``split`` in CoOp's format; other processes see the whole file or none."""
    write_atomically(path, json.dumps(dict(zip(PARTS, split, strict=True)), ensure_ascii=False))


def _item(row: object, where: str) -> Item:
    match row:
        case [str(path), int() | str() as label, str(classname)] if not isinstance(label, bool):
            if isinstance(label, str) and not re.fullmatch(r"-?\d+", label):
                raise ValueError(f"{where}: label {label!r} must be a number")
            check_path(path, where)
            return Item(path, int(label), classname)
    raise ValueError(f"{where}: expected [path, label, class name], found {row!r}")


def check_path(path: str, where: str) -> None:
    """ValueError when ``path``, found at ``where``, could lead out of the image folder or is the name of no file."""
    if os.path.isabs(path) or (".." in path and ".." in path.split("/")) or not path.strip("/."):
        raise ValueError(f"{where}: {path!r} must be a path below the image folder")
    if "\0" in path or not is_unicode(path):
        raise ValueError(f"{where}: {path!r} is the name of no file")


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8; the names of files in other encodings cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_classes(split: Split, source: str, same_names: bool = False) -> None:
    """Check that labels run from 0 without a gap, that each has images to train on and one name of its own.

    Names that differ but become one prompt are not found here, without a tokenizer; trainers look for those.

    Args:
        split: what to check; without a training part, the test part stands for it.
        source: what the split was read from, for the message.
        same_names: let two classes have one name (ImageNet's published names do).

    Raises:
        ValueError: naming the first label or name at fault, or when there are no test images.
    """
    names: dict[int, str] = {}
    for item in (item for part in split for item in part):
        name = names.setdefault(item.label, item.classname)
        if name != item.classname:
            raise ValueError(f"{source}: label {item.label} has two names, {name!r} and {item.classname!r}")
    for label, name in names.items():
        if not name.strip(" _") or not name.isprintable():
            raise ValueError(f"{source}: label {label} has the class name {name!r}, which is no name")
    if not split.test:
        raise ValueError(f"{source} has no test images")
    labels = {item.label for item in split.train or split.test}
    for label in range(max(names) + 1):
        if label not in names:
            raise ValueError(
                f"{source}: labels run up to {max(names)} but there is no image of label {label}"
            )
        if label not in labels:
            raise ValueError(f"{source}: class {names[label]!r} (label {label}) has no training images")
    if min(names) < 0:
        raise ValueError(f"{source}: label {min(names)} is negative")
    owner: dict[str, int] = {}
    for label, name in sorted(names.items()):
        # Prompts write underscores as spaces, so these names would be one.
        first = owner.setdefault(name.replace("_", " "), label)
        if first != label and not same_names:
            raise ValueError(f"{source}: labels {first} and {label} have the same class name {name!r}")


def check_once(split: Split, source: str, published: bool = False) -> None:
    """Check that no image is there twice: in training and test images, in two classes, or as ``a.jpg`` and ``./a.jpg``.

    Args:
        split: what to check.
        source: what the split was read from, for the message.
        published: only warn; of what everybody uses, nothing is to be mended here.

    Raises:
        ValueError: how many are, and the first.
    """
    places: dict[str, tuple[str, Item]] = {}
    twice = []
    for part in PARTS:
        for item in getattr(split, part):
            path = item.path
            if "./" in path or "//" in path:
                path = os.path.normpath(path)
            first = places.setdefault(path, (part, item))
            if first[1] is not item:
                twice.append((*first, part, item))
    if not twice:
        return
    part, item, other_part, other = twice[0]
    message = (
        f"{source} names {len(twice)} images twice, first: {other.path}"
        f" as {part} image of {item.classname!r} and as {other_part} image of {other.classname!r}"
    )
    if not published:
        raise ValueError(message)
    print(f"WARNING: {message}")


def check_files(split: Split, image_dir: str, source: str) -> None:
    """Check that every image of the split is there, with one look into each folder and none at each file.

    Raises:
        FileNotFoundError: how many are missing, and the first five.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for item in (item for part in split for item in part):
        folder, _, name = item.path.rpartition("/")
        folders[folder].append(name)
    missing = []
    for folder, names in folders.items():
        try:
            with os.scandir(os.path.join(image_dir, folder)) as entries:
                there = {entry.name for entry in entries}
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            there = set()
        missing += [f"{folder}/{name}".lstrip("/") for name in names if name not in there]
    if missing:
        total = sum(map(len, folders.values()))
        first = ", ".join(missing[:5])
        deeper = [
            entry.name for entry in os.scandir(image_dir) if os.path.lexists(os.path.join(entry, missing[0]))
        ]
        hint = f"; they lie a folder deeper, in {os.path.join(image_dir, deeper[0])}" if deeper else ""
        raise FileNotFoundError(
            f"{len(missing)} of the {total} images that {source} names are not in {image_dir}, first: {first}{hint}"
        )
