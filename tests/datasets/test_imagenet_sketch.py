from pathlib import Path

from datasets.imagenet_sketch import ImageNetSketch
from tests.datasets.layouts import Link, make_cfg, rows, sizes


def test_classes_are_those_that_it_has(tmp_path: Path, link_images: Link) -> None:
    folder, images = tmp_path / "imagenet-sketch", tmp_path / "imagenet-sketch" / "images"
    link_images(images, ["n01498041/b.jpg", "n01498041/a.jpg", "n01531178/c.jpg", "README.txt"])
    (folder / "classnames.txt").write_text("n01440764 tench\nn01498041 stingray\nn01531178 goldfinch\n")
    data = ImageNetSketch(make_cfg(tmp_path, shots=16))
    assert rows(data.test, images) == [
        ("n01498041/a.jpg", 0, "stingray"),
        ("n01498041/b.jpg", 0, "stingray"),
        ("n01531178/c.jpg", 1, "goldfinch"),
    ]
    assert sizes(data) == (2, 3, 0, 3)
    assert data.few_shot_hash == ""
