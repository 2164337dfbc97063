"""Small archives and splits in the layouts of the published ones."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.base import SplitDataset
from datasets.eurosat import CLASS_NAMES
from datasets.origin import Download
from datasets.split import Item, Split
from tests.tools.preparing.server import Server

Files = dict[str, bytes]


def jpeg(number: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8), number % 200).save(file, "JPEG" if mode != "P" else "PNG")
    return file.getvalue()


def packed(files: Files, kind: str = "zip") -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": content for name, content in files.items()}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def content_of(classes: dict[str, str], folder: str = "{}", ending: str = ".jpg") -> tuple[Files, bytes]:
    """Images of all classes, 2 / 1 / 2 of each, and the published split of them."""
    split = Split([], [], [])
    for label, (name, class_name) in enumerate(classes.items()):
        for number, part in enumerate(("train", "train", "val", "test", "test")):
            path = f"{folder.format(name)}/{name}_{number}{ending}"
            getattr(split, part).append(Item(path, label, class_name))
    images = {item.path: jpeg(i) for i, item in enumerate(item for part in split for item in part)}
    return images, json.dumps(split._asdict()).encode()


IMAGES, SPLIT = content_of(CLASS_NAMES)
ARCHIVE = packed(below("2750", IMAGES))
SIZES = (10, 20, 10, 20)
TABLE = "data set  state  classes  train  val  test\neurosat   ready       10     20   10    20  50 images decoded\n"


def publish(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    dataset: type[SplitDataset],
    sizes: tuple[int, int, int, int],
    split: bytes,
    archives: list[bytes],
) -> None:
    """Replace what a data set declares by small archives on the server; its other declarations stay."""
    downloads = []
    for number, archive in enumerate(archives):
        server.files[f"/{number}.zip"] = archive
        downloads.append(Download(f"{server.address}/{number}.zip", md5(archive)))
    assert dataset.origin
    changed: dict[str, Any] = {"sizes": sizes, "archives": downloads}
    if dataset.split_file:
        server.files[f"/uc?id={dataset.split_file}"] = split
        changed["files"] = {dataset.split_file: Download(f"drive:{dataset.split_file}", md5(split))}
    monkeypatch.setattr(dataset, "origin", replace(dataset.origin, **changed))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
