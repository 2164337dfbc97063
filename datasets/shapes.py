"""Shapes: drawn pictures of textured, coloured shapes, and the same classes under shifted conditions.

Every picture shows a large thing, which is its class ("striped red triangle"), and a small one of another
class beside it. The pictures are drawn into the data root on first use; each is a function of its data set,
part, class and number alone.
"""

from __future__ import annotations

import os

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.files import build_once
from datasets.split import Item, Split, save_split
from datasets.toy.painting import Scene, Thing, paint

_SHAPES = ("circle", "square", "triangle", "star")
_COLOURS = ("red", "yellow", "green", "blue")
_TEXTURES = ("striped", "dotted", "checkered")
_ALL = [
    (i + j + k, Thing(texture, colour, shape))
    for i, shape in enumerate(_SHAPES)
    for j, colour in enumerate(_COLOURS)
    for k, texture in enumerate(_TEXTURES)
]
# Like the fields of a chessboard: the first half (the base classes) and the second (the new ones) both have
# every shape, colour and texture, in other combinations.
THINGS = [thing for field, thing in _ALL if field % 2 == 0] + [thing for field, thing in _ALL if field % 2]


class _DrawnShapes(SplitDataset):
    """48 classes: 3 textures x 4 colours x 4 shapes; pictures of 64 x 64 pixels."""

    image_dir = "images"
    parts: dict[str, int] = {"test": 30}  # pictures per class
    seed: int = 0
    grounds: tuple[str, ...] = ("plain", "shaded", "cloudy")
    style: str = "photo"

    def prepare(self) -> None:
        if os.path.exists(os.path.join(self.dataset_dir, self.split_file)):
            return
        jobs = [(part, number) for part in self.parts for number in range(self.parts[part])]
        split = Split([], [], [])
        os.makedirs(self.root, exist_ok=True)
        with build_once(self.dataset_dir) as folder:
            for part, number in tqdm(jobs, desc=f"drawing {type(self).__name__}", unit=f"x{len(THINGS)}"):
                for label, thing in enumerate(THINGS):
                    path = f"{part}/{thing.name.replace(' ', '_')}/{number:03d}.png"
                    file = os.path.join(folder, type(self).image_dir, path)
                    os.makedirs(os.path.dirname(file), exist_ok=True)
                    Image.fromarray(self.picture(part, label, number)).save(file)
                    getattr(split, part).append(Item(path, label, thing.name))
            save_split(split, os.path.join(folder, self.split_file))

    @classmethod
    def picture(cls, part: str, label: int, number: int) -> np.ndarray:
        """Draw one picture, uint8 (64, 64, 3)."""
        rng = np.random.default_rng([cls.seed, ("train", "val", "test").index(part), label, number])
        other = THINGS[(label + int(rng.integers(1, len(THINGS)))) % len(THINGS)]
        ground = cls.grounds[int(rng.integers(len(cls.grounds)))]
        return paint(Scene("shapes", THINGS[label], other, ground=ground, style=cls.style), rng)


@DATASET_REGISTRY.register()
class Shapes(_DrawnShapes):
    """960 / 384 / 1,440 pictures on quiet grounds."""

    dataset_dir = "shapes"
    split_file = "split_zhou_Shapes.json"
    parts = {"train": 20, "val": 8, "test": 30}
    seed = 101


@DATASET_REGISTRY.register()
class ShapesBackgrounds(_DrawnShapes):
    """1,440 test pictures on patterned grounds."""

    dataset_dir = "shapes_backgrounds"
    split_file = "split_zhou_ShapesBackgrounds.json"
    seed = 102
    grounds = ("striped", "dotted", "checkered")


@DATASET_REGISTRY.register()
class ShapesSketch(_DrawnShapes):
    """1,440 test pictures in coloured outlines on paper."""

    dataset_dir = "shapes_sketch"
    split_file = "split_zhou_ShapesSketch.json"
    seed = 103
    style = "sketch"


@DATASET_REGISTRY.register()
class ShapesNoise(_DrawnShapes):
    """1,440 test pictures under strong noise."""

    dataset_dir = "shapes_noise"
    split_file = "split_zhou_ShapesNoise.json"
    seed = 104
    style = "noisy"
