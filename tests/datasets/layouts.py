"""Splits and configs to test with."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

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
