from pathlib import Path

import pytest

from datasets.imagenet import ImageNet
from tests.datasets.layouts import Link, make_cfg, rows, sizes

CLASSES = {"n01440764": "tench", "n03773504": "missile", "n04008634": "missile", "n02123045": "tabby cat"}


@pytest.fixture
def root(tmp_path: Path, link_images: Link) -> Path:
    folder = tmp_path / "imagenet"
    link_images(folder / "images" / "train", [f"{c}/{c}_{i}.JPEG" for c in CLASSES for i in range(6)])
    link_images(
        folder / "images" / "val", [f"{c}/ILSVRC2012_val_{i:08}.JPEG" for c in CLASSES for i in range(2)]
    )
    (folder / "classnames.txt").write_text("".join(f"{c} {name}\n" for c, name in CLASSES.items()))
    return tmp_path


def test_its_validation_images_are_the_test_images(root: Path) -> None:
    data = ImageNet(make_cfg(root))
    images = root / "imagenet" / "images"
    assert sizes(data) == (4, 24, 0, 8)
    assert data.classnames == ["tench", "tabby cat", "missile", "missile"]
    assert rows(data.test, images)[2] == ("val/n02123045/ILSVRC2012_val_00000000.JPEG", 1, "tabby cat")
    assert rows(data.train_x, images)[6] == ("train/n02123045/n02123045_0.JPEG", 1, "tabby cat")
    assert sizes(ImageNet(make_cfg(root, 4, subset="new"))) == (2, 8, 0, 4)


def test_the_index_notices_changes(root: Path) -> None:
    before = ImageNet(make_cfg(root))
    (root / "imagenet" / "images" / "train" / "n01440764" / "n01440764_3.JPEG").unlink()
    assert (root / "imagenet" / "index_train.json").is_file()
    after = ImageNet(make_cfg(root))
    assert {d.impath for d in before.train_x} - {d.impath for d in after.train_x} == {
        str(root / "imagenet" / "images" / "train" / "n01440764" / "n01440764_3.JPEG")
    }


def test_missing_class_names_are_named(root: Path) -> None:
    (root / "imagenet" / "classnames.txt").write_text("n01440764 tench\n")
    with pytest.raises(ValueError, match=r"classnames.txt has no 'n02123045'"):
        ImageNet(make_cfg(root))
    (root / "imagenet" / "classnames.txt").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"ImageNet: the class names are missing, looked for .*prepare.py ImageNet --root",
    ):
        ImageNet(make_cfg(root))


def test_a_class_without_training_images_is_named(root: Path) -> None:
    (root / "imagenet" / "images" / "train" / "n01440764").rename(root / "elsewhere")
    with pytest.raises(ValueError, match=r"train has no 'n01440764'"):
        ImageNet(make_cfg(root))
