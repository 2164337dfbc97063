"""HandwrittenDigits: the 1,797 real handwritten digits that scikit-learn ships.

From the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI Machine Learning
Repository, 1998): 13 writers, 8 x 8 pixels, 17 levels of gray.
"""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitDataset
from datasets.files import build_once
from datasets.split import Item, Split, save_split
from datasets.toy.painting import DIGITS


@DATASET_REGISTRY.register()
class HandwrittenDigits(SplitDataset):
    """Ten classes, "zero" to "nine"; 50 % / 20 % / 30 % of each are for training, validation and testing.

    The pictures are written into the data root on first use, as they are: 8 x 8 pixels, white on black.
    """

    dataset_dir = "handwritten_digits"
    image_dir = "images"
    split_file = "split_zhou_HandwrittenDigits.json"

    def prepare(self) -> None:
        if os.path.exists(os.path.join(self.dataset_dir, self.split_file)):
            return
        from sklearn.datasets import load_digits  # slow to import, needed once

        digits = load_digits()
        os.makedirs(self.root, exist_ok=True)
        with build_once(self.dataset_dir) as folder:
            for name in DIGITS:
                os.makedirs(os.path.join(folder, type(self).image_dir, name))
            for number, (image, label) in enumerate(zip(digits.images, digits.target)):
                pixels = (image * 255 / 16).round().astype(np.uint8)
                Image.fromarray(pixels).save(os.path.join(folder, type(self).image_dir, _path(number, label)))
            save_split(make_split(digits.target), os.path.join(folder, self.split_file))


def make_split(labels: np.ndarray) -> Split:
    """The fixed split: 50 % / 20 % / 30 % of each class, shuffled with a seed of its own."""
    split = Split([], [], [])
    rng = np.random.default_rng(8)
    for label, name in enumerate(DIGITS):
        numbers = rng.permutation(np.flatnonzero(labels == label))
        first, second = round(0.5 * len(numbers)), round(0.7 * len(numbers))
        for part, chosen in zip(split, np.split(numbers, [first, second])):
            part.extend(Item(_path(number, label), label, name) for number in sorted(chosen))
    return split


def _path(number: int, label: int) -> str:
    return f"{DIGITS[label]}/{number:04d}.png"
