from pathlib import Path

import pytest

from datasets.imagenetv2 import ImageNetV2
from tests.datasets.layouts import Link, make_cfg, rows


@pytest.fixture
def root(tmp_path: Path, link_images: Link) -> Path:
    """Twelve classes, with the class names where ImageNet has them."""
    folder = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    link_images(folder, [f"{label}/{i}.jpeg" for label in range(12) for i in range(2)])
    (tmp_path / "imagenet").mkdir()
    lines = "".join(f"n{label:08} name {label}\n" for label in range(12))
    (tmp_path / "imagenet" / "classnames.txt").write_text(lines)
    return tmp_path


def test_folders_are_labels(root: Path) -> None:
    data = ImageNetV2(make_cfg(root))
    test = rows(data.test, root / "imagenetv2" / "imagenetv2-matched-frequency-format-val")
    assert data.classnames == [f"name {label}" for label in range(12)]
    assert test[4] == ("2/0.jpeg", 2, "name 2")
    assert test[20] == ("10/0.jpeg", 10, "name 10")
    assert len(test) == 24


def test_a_missing_folder_is_named(root: Path) -> None:
    (root / "imagenetv2" / "imagenetv2-matched-frequency-format-val" / "3").rename(root / "3")
    with pytest.raises(ValueError, match="no image of label 3"):
        ImageNetV2(make_cfg(root))
