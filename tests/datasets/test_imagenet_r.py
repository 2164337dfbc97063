from pathlib import Path

from datasets.imagenet_r import ImageNetR
from tests.datasets.layouts import Link, check_imagenet_variant


def test_classes_are_those_that_it_has(tmp_path: Path, link_images: Link) -> None:
    check_imagenet_variant(ImageNetR, tmp_path / "imagenet-rendition" / "imagenet-r", link_images)
