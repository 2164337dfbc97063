from pathlib import Path

from datasets.imagenet_a import ImageNetA
from tests.datasets.layouts import Link, check_imagenet_variant


def test_classes_are_those_that_it_has(tmp_path: Path, link_images: Link) -> None:
    check_imagenet_variant(ImageNetA, tmp_path / "imagenet-adversarial" / "imagenet-a", link_images)
