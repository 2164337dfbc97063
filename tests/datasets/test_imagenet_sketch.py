from pathlib import Path

from datasets.imagenet_sketch import ImageNetSketch
from tests.datasets.layouts import Link, check_imagenet_variant


def test_classes_are_those_that_it_has(tmp_path: Path, link_images: Link) -> None:
    check_imagenet_variant(ImageNetSketch, tmp_path / "imagenet-sketch" / "images", link_images)
