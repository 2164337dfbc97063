"""A composed transform whose last steps can be left to be done for a whole batch at once."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import Compose, v2

__all__ = ["Pipeline", "ToUnitRange"]


class ToUnitRange:
    """Values 0 ... 255 as floats in [0, 1], divided as torchvision's ToTensor does; a float tensor in its own memory."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.to(torch.float32).div_(255)


class Pipeline(v2.Compose, Compose):
    """A v2.Compose from a PIL image to a tensor; the first Compose as well, for plugins ask for that type.

    Where :attr:`splits`, ``pipeline(image)`` is also ``pipeline.finish(pipeline.pixels(image).float())``, bit
    for bit, and ``finish`` takes a batch as well.
    """

    @property
    def splits(self) -> bool:
        """Whether nothing follows the 8-bit tensor but :class:`ToUnitRange` and normalisations."""
        last = self._parts()[1]
        return bool(last) and all(isinstance(step, v2.Normalize) for step in last[1:])

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """The transformed image, uint8 (3, H, W)."""
        pixels: Any = image
        for step in self._parts()[0]:
            pixels = step(pixels)
        return pixels

    def finish(self, images: torch.Tensor) -> torch.Tensor:
        """The results, float32 (..., 3, H, W), from what ``pixels`` gave as float32, in the same memory."""
        for step in self._parts()[1]:
            if isinstance(step, v2.Normalize):
                # A batch is large enough for a copy of it to cost more than the arithmetic.
                step = v2.Normalize(step.mean, step.std, inplace=True)
            images = step(images)
        return images

    def _parts(self) -> tuple[list[Callable[[Any], Any]], list[Callable[[Any], Any]]]:
        """The steps up to the 8-bit tensor, and those after it."""
        steps = list(self.transforms)
        place = next((i for i, step in enumerate(steps) if isinstance(step, ToUnitRange)), len(steps))
        return steps[:place], steps[place:]
