from pathlib import Path

import pytest

from datasets.caltech101 import Caltech101
from datasets.split import Split
from tests.datasets.layouts import LayOut, Link, make_cfg, rows, sizes


def test_published_and_own_split(
    lay_out: LayOut, link_images: Link, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    split = lay_out("Caltech101", "caltech-101", "101_ObjectCategories")
    images = tmp_path / "caltech-101" / "101_ObjectCategories"
    link_images(images, ["BACKGROUND_Google/image_0001.jpg", "Faces_easy/image_0001.jpg"])
    data = Caltech101(make_cfg(tmp_path))
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split
    assert sizes(data) == (100, 4128, 1649, 2465)
    (tmp_path / "caltech-101" / "split_zhou_Caltech101.json").unlink()
    own = Caltech101(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert own.lab2cname == data.lab2cname
    assert sizes(own) == (100, 4128, 1649, 2465)
