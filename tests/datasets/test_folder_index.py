import json
import os
from pathlib import Path

import pytest

from datasets.folder_index import index_folders
from tests.datasets.layouts import Link


def test_changes_are_noticed_and_only_they_are_listed_again(tmp_path: Path, link_images: Link) -> None:
    images, index = tmp_path / "images", tmp_path / "index.json"
    link_images(images, ["b/2.jpg", "b/1.jpg", "a/3.jpg", "a/.hidden", "file.txt"])
    assert index_folders(str(images), str(index)) == {"a": ["3.jpg"], "b": ["1.jpg", "2.jpg"]}

    # Mark the index, to see what is taken from it.
    kept = json.loads(index.read_text())
    kept["a"][1] = kept["b"][1] = ["from the index"]
    index.write_text(json.dumps(kept))
    (images / "b" / "1.jpg").unlink()
    os.utime(images / "b", ns=(0, 1))  # a coarse clock could give it the same time again
    assert index_folders(str(images), str(index)) == {"a": ["from the index"], "b": ["2.jpg"]}

    link_images(images, ["c/4.jpg"])
    (images / "a" / "3.jpg").unlink()
    (images / "a" / ".hidden").unlink()
    (images / "a").rmdir()
    assert index_folders(str(images), str(index)) == {"b": ["2.jpg"], "c": ["4.jpg"]}
    assert list(json.loads(index.read_text())) == ["b", "c"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a": ["x", []]}'])
def test_a_broken_index_is_made_again(tmp_path: Path, link_images: Link, text: str) -> None:
    link_images(tmp_path / "images", ["a/1.jpg"])
    (tmp_path / "index.json").write_text(text)
    assert index_folders(str(tmp_path / "images"), str(tmp_path / "index.json")) == {"a": ["1.jpg"]}
    assert list(json.loads((tmp_path / "index.json").read_text())) == ["a"]
