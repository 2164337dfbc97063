"""Small data sets on disk, for the tests of `datasets`."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from tests.datasets.toy import Link


@pytest.fixture(scope="session")
def link_images(tmp_path_factory: pytest.TempPathFactory) -> Link:
    """A function (folder, names) that puts one small JPEG under all those names in the folder."""
    image = tmp_path_factory.mktemp("image") / "image.jpg"
    Image.new("RGB", (8, 6), (200, 120, 40)).save(image)

    def link(folder: Path, names: Iterable[str]) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(image, path)

    return link
