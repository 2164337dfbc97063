"""The transforms of the training and the test images, from the names in ``cfg.INPUT.TRANSFORMS``.

Built from torchvision.transforms.v2, working on PIL images as torchvision's first transforms did when the
published numbers were made, and equal to them in every bit and every random number. Where v2's own are not, they
are not used: its ToDtype multiplies by 1/255 where ToTensor divided by 255, which rounds to other last bits
(:class:`ToUnitRange` divides), and its AutoAugment differs (see autoaugment.py).

Random numbers come from the global states of Python, NumPy and PyTorch.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import (
    CenterCrop,
    ColorJitter,
    GaussianBlur,
    Normalize,
    PILToTensor,
    RandomApply,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)
from yacs.config import CfgNode

from foundation.keys.of_all_runs import of

from .autoaugment import CIFAR10Policy, ImageNetPolicy, SVHNPolicy
from .pipeline import Pipeline, ToUnitRange
from .randaugment import RandAugment, RandAugment2, RandAugmentFixMatch

__all__ = ["AVAI_CHOICES", "INTERPOLATION_MODES", "build_transform"]

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


class Random2DTranslation:
    """With probability ``p``, a random crop from the image at 1.125 times the size; otherwise a resize.

    Args:
        height, width: size of the result in pixels.
        p: probability of the crop.
        interpolation: of the resize.
    """

    def __init__(
        self,
        height: int,
        width: int,
        p: float = 0.5,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ):
        self.height = height
        self.width = width
        self.p = p
        self.interpolation = interpolation

    def __call__(self, img: Any) -> Any:
        if random.uniform(0, 1) > self.p:
            return F.resize(img, [self.height, self.width], self.interpolation)
        height, width = round(self.height * 1.125), round(self.width * 1.125)
        img = F.resize(img, [height, width], self.interpolation)
        left = round(random.uniform(0, width - self.width))
        top = round(random.uniform(0, height - self.height))
        return F.crop(img, top, left, self.height, self.width)


class InstanceNormalization:
    """Each channel of a (C, H, W) tensor less its mean, over its deviation (Ulyanov et al., 2016)."""

    def __init__(self, eps: float = 1e-8):
        self.eps = eps

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        std, mean = torch.std_mean(img, dim=(1, 2), keepdim=True)
        return (img - mean) / (std + self.eps)


class Cutout:
    """Sets ``n_holes`` random squares of a (C, H, W) tensor to zero (DeVries and Taylor, arXiv:1708.04552).

    Args:
        n_holes: number of squares.
        length: their side in pixels; they are cut off at the borders.
    """

    def __init__(self, n_holes: int = 1, length: int = 16):
        self.n_holes = n_holes
        self.length = length

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        img = img.clone()
        half = self.length // 2
        for _ in range(self.n_holes):
            y = np.random.randint(img.shape[1])  # noqa: NPY002
            x = np.random.randint(img.shape[2])  # noqa: NPY002
            img[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return img


class GaussianNoise:
    """With probability ``p``, adds normal noise to a tensor."""

    def __init__(self, mean: float = 0, std: float = 0.15, p: float = 0.5):
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        if random.uniform(0, 1) > self.p:
            return img
        return img + torch.randn(img.shape) * self.std + self.mean


# name: (what is printed, the transform), in the order of application; on the image ...
Part = tuple[Callable[[Any], str], Callable[[Any], Callable]]
_ON_IMAGE: dict[str, Part] = {
    "random_translation": (
        lambda c: "random translation",
        lambda c: Random2DTranslation(c.SIZE[0], c.SIZE[1]),
    ),
    "random_crop": (
        lambda c: f"random crop (padding = {c.CROP_PADDING})",
        lambda c: RandomCrop(c.SIZE, padding=c.CROP_PADDING),
    ),
    "random_resized_crop": (
        lambda c: f"random resized crop (size={c.SIZE}, scale={c.RRCROP_SCALE})",
        lambda c: RandomResizedCrop(c.SIZE, scale=c.RRCROP_SCALE, interpolation=_interpolation(c)),
    ),
    "random_flip": (lambda c: "random flip", lambda c: RandomHorizontalFlip()),
    "imagenet_policy": (lambda c: "imagenet policy", lambda c: ImageNetPolicy()),
    "autoaugment": (lambda c: "imagenet policy", lambda c: ImageNetPolicy()),
    "cifar10_policy": (lambda c: "cifar10 policy", lambda c: CIFAR10Policy()),
    "svhn_policy": (lambda c: "svhn policy", lambda c: SVHNPolicy()),
    "randaugment": (
        lambda c: f"randaugment (n={c.RANDAUGMENT_N}, m={c.RANDAUGMENT_M})",
        lambda c: RandAugment(c.RANDAUGMENT_N, c.RANDAUGMENT_M),
    ),
    "randaugment_fixmatch": (
        lambda c: f"randaugment_fixmatch (n={c.RANDAUGMENT_N})",
        lambda c: RandAugmentFixMatch(c.RANDAUGMENT_N),
    ),
    "randaugment2": (
        lambda c: f"randaugment2 (n={c.RANDAUGMENT_N})",
        lambda c: RandAugment2(c.RANDAUGMENT_N),
    ),
    "colorjitter": (
        lambda c: (
            f"color jitter (brightness={c.COLORJITTER_B}, contrast={c.COLORJITTER_C}, "
            f"saturation={c.COLORJITTER_S}, hue={c.COLORJITTER_H})"
        ),
        lambda c: ColorJitter(c.COLORJITTER_B, c.COLORJITTER_C, c.COLORJITTER_S, c.COLORJITTER_H),
    ),
    "randomgrayscale": (lambda c: "random gray scale", lambda c: RandomGrayscale(p=c.RGS_P)),
    "gaussian_blur": (
        lambda c: f"gaussian blur (kernel={c.GB_K})",
        lambda c: RandomApply([GaussianBlur(c.GB_K)], p=c.GB_P),
    ),
}
# ... and on the tensor. Of these, normalisations apply to test images too.
_ON_TENSOR: dict[str, Part] = {
    "cutout": (
        lambda c: f"cutout (n_holes={c.CUTOUT_N}, length={c.CUTOUT_LEN})",
        lambda c: Cutout(c.CUTOUT_N, c.CUTOUT_LEN),
    ),
    "normalize": (
        lambda c: f"normalization (mean={c.PIXEL_MEAN}, std={c.PIXEL_STD})",
        lambda c: Normalize(c.PIXEL_MEAN, c.PIXEL_STD),
    ),
    "gaussian_noise": (
        lambda c: f"gaussian noise (mean={c.GN_MEAN}, std={c.GN_STD})",
        lambda c: GaussianNoise(c.GN_MEAN, c.GN_STD),
    ),
    "instance_norm": (lambda c: "instance normalization", lambda c: InstanceNormalization()),
}
_IN_TEST = ("normalize", "instance_norm")
# Test images are always cropped at the centre; the name is taken and means nothing more.
AVAI_CHOICES = ["center_crop", *_ON_IMAGE, *_ON_TENSOR]


def _interpolation(inputs: Any) -> InterpolationMode:
    if inputs.INTERPOLATION not in INTERPOLATION_MODES:
        raise ValueError(
            f"Unknown INPUT.INTERPOLATION {inputs.INTERPOLATION} (use {list(INTERPOLATION_MODES)})"
        )
    return INTERPOLATION_MODES[inputs.INTERPOLATION]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Pipeline | None:
    """The transform from a PIL image to a (3, H, W) tensor of size ``cfg.INPUT.SIZE``.

    In training: a resize (unless a random crop follows), the named transforms in a fixed order, values in [0,
    1], then what works on tensors. In test: the smaller edge is resized, the centre cropped, values
    normalised.

    Args:
        cfg: the whole config.
        is_train: for training or for test images.
        choices: names in place of ``cfg.INPUT.TRANSFORMS``.

    Returns:
        None where ``cfg.INPUT.NO_TRANSFORM`` is set.

    Raises:
        ValueError: a name does not exist; lists those that do.
    """
    inputs = cfg.INPUT
    if inputs.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    if choices is None:
        choices = inputs.TRANSFORMS
    for choice in choices:
        if choice not in AVAI_CHOICES:
            raise ValueError(
                f"Unknown transform {choice} in INPUT.TRANSFORMS (available: {', '.join(AVAI_CHOICES)})"
            )

    steps: list[Callable] = []

    def add(text: str, step: Callable) -> None:
        print(f"+ {text}")
        steps.append(step)

    height, width = inputs.SIZE
    if is_train:
        print("Building transform_train")
        if "random_crop" not in choices and "random_resized_crop" not in choices:
            add(f"resize to {height}x{width}", Resize(inputs.SIZE, interpolation=_interpolation(inputs)))
        for name, (text, make) in _ON_IMAGE.items():
            if name in choices:
                add(text(inputs), make(inputs))
    else:
        print("Building transform_test")
        edge = max(inputs.SIZE)
        if of(cfg, "INPUT.RESIZE_MODE") == "squash":
            add(f"resize to {height}x{width}", Resize(inputs.SIZE, interpolation=_interpolation(inputs)))
        else:
            add(f"resize the smaller edge to {edge}", Resize(edge, interpolation=_interpolation(inputs)))
            add(f"{height}x{width} center crop", CenterCrop(inputs.SIZE))
    steps.append(PILToTensor())
    add("to torch tensor of range [0, 1]", ToUnitRange())
    for name, (text, make) in _ON_TENSOR.items():
        if name in choices and (is_train or name in _IN_TEST):
            add(text(inputs), make(inputs))
    return Pipeline(steps)
