"""Splits and configs to test with."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DatasetBase, Datum
from datasets.config import extend_cfg
from datasets.split import Item, Split

Link = Callable[[Path, Iterable[str]], None]
LayOut = Callable[[str, str, str], Split]


def make_cfg(root: Path, shots: int = -1, seed: int = 1, subset: str = "all") -> CfgNode:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NUM_SHOTS = shots
    cfg.SEED = seed
    cfg.DATASET.SUBSAMPLE_CLASSES = subset
    return cfg


def rows(data: list[Datum] | None, image_dir: Path) -> list[Item]:
    """The data of a data set as a split has them."""
    return [Item(os.path.relpath(d.impath, image_dir), d.label, d.classname) for d in data or []]


def sizes(data: DatasetBase) -> tuple[int, int, int, int]:
    """Numbers of classes and of training, validation and test images."""
    return data.num_classes, len(data.train_x), len(data.val or []), len(data.test)


def make_split(classes: int = 5, train: int = 6, val: int = 5, test: int = 4) -> Split:
    """A split with images "c<class>/<part>_<i>.jpg" and that many of them per class."""
    return Split(
        *(
            [Item(f"c{c}/{part}_{i}.jpg", c, f"name {c}") for c in range(classes) for i in range(count)]
            for part, count in (("train", train), ("val", val), ("test", test))
        )
    )


@st.composite
def splits(draw: st.DrawFn, min_classes: int = 1) -> Split:
    """Splits with up to 6 classes of 1 to 9 training and 0 to 9 validation images, in any order."""
    sizes = draw(
        st.lists(
            st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 3)),
            min_size=min_classes,
            max_size=6,
        )
    )
    parts = []
    for p, part in enumerate(("train", "val", "test")):
        items = [
            Item(f"c{c}/{part}_{i}.jpg", c, f"name {c}")
            for c, size in enumerate(sizes)
            for i in range(size[p])
        ]
        parts.append(draw(st.permutations(items)))
    return Split(*parts)


def check_imagenet_variant(dataset: Any, images: Path, link_images: Link) -> None:
    """Of ImageNet's classes a variant has those whose folders are there, and nothing is drawn from it.

    Args:
        images: its folder of class folders, in the folder of the class names, in the root.
    """
    link_images(images, ["n01498041/b.jpg", "n01498041/a.jpg", "n01531178/c.jpg", "README.txt"])
    (images.parent / "classnames.txt").write_text(
        "n01440764 tench\nn01498041 stingray\nn01531178 goldfinch\n"
    )
    data = dataset(make_cfg(images.parent.parent, shots=16))
    assert rows(data.test, images) == [
        ("n01498041/a.jpg", 0, "stingray"),
        ("n01498041/b.jpg", 0, "stingray"),
        ("n01531178/c.jpg", 1, "goldfinch"),
    ]
    assert sizes(data) == (2, 3, 0, 3)
    assert data.few_shot_hash == ""
