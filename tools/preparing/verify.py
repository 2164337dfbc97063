"""Prove that a data set is right: its split, its counts, its images; and remember it, to be quick the next time."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets.base import SplitDataset
from datasets.files import md5_of, write_atomically
from datasets.origin import compare_sizes
from tools.preparing.data_sets import load, split_of
from tools.preparing.examine import examine_all

RECORD = ".verified.json"
KINDS = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "RGBA": "with transparency"}


@dataclass
class Verified:
    """What was found right.

    Attributes:
        sizes: numbers of classes and of training, validation and test images.
        images: number of different files.
        decoded: whether each was decoded.
        converted: how many are not 8-bit RGB, by kind; the engine converts them when it reads them.
        folders: each folder's time of modification, which changes with the names in it.
        files: the checksums of the files that were fetched singly.
    """

    sizes: list[int]
    images: int
    decoded: bool
    converted: dict[str, int]
    folders: dict[str, int]
    files: dict[str, str]


def verify(name: str, dataset: type[SplitDataset], root: str, decode: bool, workers: int) -> Verified:
    """Verify a data set that lies in `root`.

    Raises:
        FileNotFoundError: something is missing.
        ValueError: something is wrong.
    """
    origin = dataset.origin
    folder = Path(root, dataset.dataset_dir)
    if folder.is_dir():  # else loading says what there is instead
        check_files(dataset, folder)
    data = load(name, root)
    split = split_of(data)
    sizes = [data.num_classes, *map(len, split)]
    if origin and tuple(sizes) != origin.sizes:
        remedy = "; --force fetches the split file again" if dataset.split_file else ""
        raise ValueError(f"{folder} has {compare_sizes(sizes, origin.sizes)}{remedy}")
    paths = sorted({item.path for part in split for item in part})
    converted: Counter[str] = Counter()
    if decode:
        bad = []
        for path, mode, reason in examine_all([f"{data.image_dir}/{path}" for path in paths], workers, name):
            if reason:
                bad.append(f"{os.path.relpath(path, data.image_dir)} ({reason})")
            elif mode != "RGB":
                converted[KINDS.get(mode, mode)] += 1
        if bad:
            raise ValueError(
                f"{len(bad)} of the {len(paths)} images of {name} cannot be read, first: {', '.join(bad[:5])}"
            )
    folders = {os.path.dirname(f"{data.image_dir}/{path}") for path in paths}
    result = Verified(
        sizes, len(paths), decode, dict(converted), _times(folders), _checksums(dataset, folder)
    )
    try:
        write_atomically(str(folder / RECORD), json.dumps(asdict(result)))
    except OSError as error:  # a read-only data root; the next call verifies again
        print(f"Not remembered that {name} is right ({error})")
    return result


def remembered(dataset: type[SplitDataset], root: str) -> Verified | None:
    """What was verified before, if no name in the data set and no fetched file has changed since."""
    folder = Path(root, dataset.dataset_dir)
    try:
        result = Verified(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        same = _times(result.folders) == result.folders and _checksums(dataset, folder) == result.files
    except (OSError, ValueError, TypeError):
        return None
    return result if same and (not dataset.origin or tuple(result.sizes) == dataset.origin.sizes) else None


def check_files(dataset: type[SplitDataset], folder: Path) -> None:
    """ValueError when one of the data set's single files is another than the published one."""
    for file, download in (dataset.origin.files if dataset.origin else {}).items():
        path = folder / file
        if download.md5 and path.is_file() and (found := md5_of(path)) != download.md5:
            raise ValueError(
                f"{path} is not the published file (md5 {found}, not {download.md5});"
                " --force fetches that and keeps the other one aside"
            )
        if file == dataset.split_file and not path.is_file():
            raise FileNotFoundError(f"the published split {path} is missing")


def _times(folders: Iterable[str]) -> dict[str, int]:
    return {folder: os.stat(folder).st_mtime_ns for folder in sorted(folders)}


def _checksums(dataset: type[SplitDataset], folder: Path) -> dict[str, str]:
    names = dataset.origin.files if dataset.origin else ()
    return {name: md5_of(folder / name) for name in names if (folder / name).is_file()}
