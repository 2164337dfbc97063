from pathlib import Path

import pytest

from datasets.food101 import Food101
from datasets.split import Item, Split, save_split
from tests.datasets.layouts import Link, make_cfg, rows, sizes


def test_published_and_own_split(tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture) -> None:
    classes = {"apple_pie": range(134, 144), "baby_back_ribs": range(2432, 2442)}
    items = [
        Item(f"{c}/{i}.jpg", label, c) for label, (c, images) in enumerate(classes.items()) for i in images
    ]
    images = tmp_path / "food-101" / "images"
    link_images(images, [item.path for item in items])
    split = Split(items[::2], items[1::4], items[3::4])
    save_split(split, str(tmp_path / "food-101" / "split_zhou_Food101.json"))
    data = Food101(make_cfg(tmp_path))
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split
    assert data.template.format("apple pie") == "a photo of apple pie, a type of food."
    (tmp_path / "food-101" / "split_zhou_Food101.json").unlink()
    own = Food101(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert own.lab2cname == data.lab2cname
    assert sizes(own) == (2, 10, 4, 6)
