from collections import Counter
from pathlib import Path

import pytest

from datasets.own_split import list_folders, split_folders, split_off_val
from tests.datasets.layouts import Link, make_split


def test_folders_are_split_50_20_30_by_their_file_names_alone(tmp_path: Path, link_images: Link) -> None:
    names = [f"{c}/{i}.jpg" for c in ("cat", "Dog", "skip") for i in range(10)]
    link_images(tmp_path / "one", [*names, "Dog/.hidden", "cat.txt", ".git/x"])
    link_images(tmp_path / "two", reversed(names))
    split = split_folders(str(tmp_path / "one"), {"cat": "a cat"}, ignored=["skip"])
    assert [Counter(item.classname for item in part) for part in split] == [
        {"Dog": 5, "a cat": 5},
        {"Dog": 2, "a cat": 2},
        {"Dog": 3, "a cat": 3},
    ]
    assert {(item.label, item.classname) for item in split.train} == {(0, "Dog"), (1, "a cat")}
    assert sorted(item.path for part in split for item in part) == sorted(n for n in names if n[:4] != "skip")
    assert split == split_folders(str(tmp_path / "two"), {"cat": "a cat"}, ignored=["skip"])


def test_a_class_too_small_for_three_parts_is_named(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, ["a/1.jpg", "a/2.jpg"])
    with pytest.raises(ValueError, match="has 2 images, too few"):
        split_folders(str(tmp_path))


def test_validation_images_come_from_each_class() -> None:
    items = make_split(classes=3, train=10).train
    train, val = split_off_val(items)
    assert Counter(item.label for item in val) == {0: 2, 1: 2, 2: 2}
    assert sorted(train + val) == sorted(items)
    assert split_off_val(items[::-1]) == (train, val)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.jpg").touch()
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=f"class folder {tmp_path / 'none'} is empty"):
        list_folders(str(tmp_path))
