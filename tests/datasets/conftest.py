"""Small data sets on disk, for the tests of `datasets`."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from datasets.split import Split, load_split
from tests.datasets.layouts import LayOut, Link


@pytest.fixture(scope="session")
def link_images(tmp_path_factory: pytest.TempPathFactory) -> Link:
    """A function (folder, names) that puts one small JPEG under all those names in the folder."""

    def link(folder: Path, names: Iterable[str]) -> None:
        image = (
            tmp_path_factory.mktemp("image") / "image.jpg"
        )  # a new one each time: a file has 65,000 names at most
        Image.new("RGB", (8, 6), (200, 120, 40)).save(image)
        made: set[str] = set()
        for name in names:
            parent, _, _ = name.rpartition("/")
            if parent not in made:
                (folder / parent).mkdir(parents=True, exist_ok=True)
                made.add(parent)
            os.link(image, folder / name)

    return link


@pytest.fixture
def lay_out(shared: Path, tmp_path: Path, link_images: Link) -> LayOut:
    """A function (name, folder, image folder) that lays out a data set with its published split in tmp_path.

    There is a file for every image that the split names. Returns the split.
    """

    def lay_out(name: str, folder: str, image_dir: str) -> Split:
        file = shared / "data" / "splits" / f"split_zhou_{name}.json"
        split = load_split(str(file))
        link_images(tmp_path / folder / image_dir, [item.path for part in split for item in part])
        shutil.copy(file, tmp_path / folder)
        return split

    return lay_out
