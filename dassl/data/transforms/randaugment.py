"""RandAugment (Cubuk et al., NeurIPS 2020, arXiv:1909.13719) in Dassl's three forms.

torchvision's RandAugment has other operations and strengths (no inversion, no cutout), so the operations are
listed here; each is a call of Pillow. Strengths run linearly between the two ends given; geometric operations
go either way with equal probability and leave black behind.
"""

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

__all__ = ["RandAugment", "RandAugment2", "RandAugmentFixMatch"]

Operation = Callable[[Image.Image, float], Image.Image]


def _either_way(v: float) -> float:
    return -v if random.random() > 0.5 else v


def _affine(img: Image.Image, *matrix: float) -> Image.Image:
    return img.transform(img.size, Image.Transform.AFFINE, matrix)


def shear_x(img: Image.Image, v: float) -> Image.Image:
    return _affine(img, 1, _either_way(v), 0, 0, 1, 0)


def shear_y(img: Image.Image, v: float) -> Image.Image:
    return _affine(img, 1, 0, 0, _either_way(v), 1, 0)


def translate_x(img: Image.Image, v: float) -> Image.Image:
    """``v`` in image widths."""
    return _affine(img, 1, 0, _either_way(v) * img.width, 0, 1, 0)


def translate_y(img: Image.Image, v: float) -> Image.Image:
    """``v`` in image heights."""
    return _affine(img, 1, 0, 0, 0, 1, _either_way(v) * img.height)


def translate_x_abs(img: Image.Image, v: float) -> Image.Image:
    """``v`` in pixels."""
    return _affine(img, 1, 0, _either_way(v), 0, 1, 0)


def translate_y_abs(img: Image.Image, v: float) -> Image.Image:
    """``v`` in pixels."""
    return _affine(img, 1, 0, 0, 0, 1, _either_way(v))


def rotate(img: Image.Image, v: float) -> Image.Image:
    return img.rotate(_either_way(v))


def auto_contrast(img: Image.Image, _: float) -> Image.Image:
    return ImageOps.autocontrast(img)


def invert(img: Image.Image, _: float) -> Image.Image:
    return ImageOps.invert(img)


def equalize(img: Image.Image, _: float) -> Image.Image:
    return ImageOps.equalize(img)


def identity(img: Image.Image, _: float) -> Image.Image:
    return img


def solarize(img: Image.Image, v: float) -> Image.Image:
    return ImageOps.solarize(img, v)  # type: ignore[arg-type]  # any number is compared with


def solarize_add(img: Image.Image, v: float) -> Image.Image:
    brighter = img.point(lambda value: min(int(value + v), 255))
    return ImageOps.solarize(brighter, 128)


def posterize(img: Image.Image, v: float) -> Image.Image:
    return ImageOps.posterize(img, int(v))


def contrast(img: Image.Image, v: float) -> Image.Image:
    return ImageEnhance.Contrast(img).enhance(v)


def color(img: Image.Image, v: float) -> Image.Image:
    return ImageEnhance.Color(img).enhance(v)


def brightness(img: Image.Image, v: float) -> Image.Image:
    return ImageEnhance.Brightness(img).enhance(v)


def sharpness(img: Image.Image, v: float) -> Image.Image:
    return ImageEnhance.Sharpness(img).enhance(v)


def cutout_abs(img: Image.Image, v: float) -> Image.Image:
    """A grey square of ``v`` pixels at a random place."""
    x, y = np.random.uniform(img.width), np.random.uniform(img.height)  # noqa: NPY002
    left, top = int(max(0, x - v / 2)), int(max(0, y - v / 2))
    img = img.copy()
    box = (left, top, min(img.width, left + v), min(img.height, top + v))
    ImageDraw.Draw(img).rectangle(box, (125, 123, 114))
    return img


RANDAUGMENT: list[tuple[Operation, float, float]] = [
    (auto_contrast, 0, 1),
    (equalize, 0, 1),
    (invert, 0, 1),
    (rotate, 0, 30),
    (posterize, 4, 8),
    (solarize, 0, 256),
    (solarize_add, 0, 110),
    (color, 0.1, 1.9),
    (contrast, 0.1, 1.9),
    (brightness, 0.1, 1.9),
    (sharpness, 0.1, 1.9),
    (shear_x, 0.0, 0.3),
    (shear_y, 0.0, 0.3),
    (cutout_abs, 0, 40),
    (translate_x_abs, 0.0, 100),
    (translate_y_abs, 0.0, 100),
]

RANDAUGMENT2: list[tuple[Operation, float, float]] = [
    (auto_contrast, 0, 1),
    (brightness, 0.1, 1.9),
    (color, 0.1, 1.9),
    (contrast, 0.1, 1.9),
    (equalize, 0, 1),
    (identity, 0, 1),
    (invert, 0, 1),
    (posterize, 4, 8),
    (rotate, -30, 30),
    (sharpness, 0.1, 1.9),
    (shear_x, -0.3, 0.3),
    (shear_y, -0.3, 0.3),
    (solarize, 0, 256),
    (translate_x, -0.3, 0.3),
    (translate_y, -0.3, 0.3),
]

# FixMatch (Sohn et al., NeurIPS 2020, arXiv:2001.07685)
FIXMATCH: list[tuple[Operation, float, float]] = [
    (auto_contrast, 0, 1),
    (brightness, 0.05, 0.95),
    (color, 0.05, 0.95),
    (contrast, 0.05, 0.95),
    (equalize, 0, 1),
    (identity, 0, 1),
    (posterize, 4, 8),
    (rotate, -30, 30),
    (sharpness, 0.05, 0.95),
    (shear_x, -0.3, 0.3),
    (shear_y, -0.3, 0.3),
    (solarize, 0, 256),
    (translate_x, -0.3, 0.3),
    (translate_y, -0.3, 0.3),
]


class RandAugment:
    """``n`` random operations of the same strength, ``m`` of 30."""

    def __init__(self, n: int = 2, m: int = 10):
        if not 0 <= m <= 30:
            raise ValueError(f"RandAugment's strength m={m} must lie between 0 and 30")
        self.n = n
        self.m = m
        self.augment_list = RANDAUGMENT

    def __call__(self, img: Image.Image) -> Image.Image:
        for operation, low, high in random.choices(self.augment_list, k=self.n):
            img = operation(img, self.m / 30 * (high - low) + low)
        return img


class RandAugment2:
    """``n`` random operations of random strength, each done with probability ``p``."""

    def __init__(self, n: int = 2, p: float = 0.6):
        self.n = n
        self.p = p
        self.augment_list = RANDAUGMENT2

    def __call__(self, img: Image.Image) -> Image.Image:
        for operation, low, high in random.choices(self.augment_list, k=self.n):
            if random.random() <= self.p:
                img = operation(img, random.random() * (high - low) + low)
        return img


class RandAugmentFixMatch:
    """``n`` random operations of random strength."""

    def __init__(self, n: int = 2):
        self.n = n
        self.augment_list = FIXMATCH

    def __call__(self, img: Image.Image) -> Image.Image:
        for operation, low, high in random.choices(self.augment_list, k=self.n):
            img = operation(img, random.random() * (high - low) + low)
        return img
