"""Decoded images in memory, for small training sets that are read again in every epoch."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from dassl.utils import read_image

__all__ = ["ImageCache"]


class ImageCache:
    """Keeps decoded images as long as they fit.

    It is filled before the workers of a loader start: those that are forked then share its memory. Pixels are
    kept as arrays, at 3 bytes each where PIL takes 4, and every reading gives an image of its own.

    Args:
        limit: bytes for pixels; 0 keeps nothing.
        options: of ``read_image``.
    """

    def __init__(self, limit: int, **options: Any):
        self.limit = limit
        self.options = options
        self.images: dict[str, np.ndarray] = {}

    def fill(self, paths: Iterable[str]) -> None:
        """Decode images, in the order of ``paths``, up to the limit. Does nothing when called again."""
        if self.limit == 0 or self.images:
            return
        todo = list(dict.fromkeys(paths))
        size = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes outside of Python's lock
            for start in range(0, len(todo), 256):
                batch = todo[start : start + 256]
                for path, pixels in zip(batch, pool.map(self._decode, batch)):
                    size += pixels.nbytes
                    if size > self.limit:
                        break
                    self.images[path] = pixels
                if size > self.limit:
                    break
        kept = sum(pixels.nbytes for pixels in self.images.values()) / 1e6
        print(f"* {len(self.images):,} of {len(todo):,} training images are kept decoded ({kept:,.0f} MB)")

    def read(self, path: str) -> Image.Image:
        """The image as ``read_image`` gives it."""
        pixels = self.images.get(path)
        return read_image(path, **self.options) if pixels is None else Image.fromarray(pixels)

    def _decode(self, path: str) -> np.ndarray:
        return np.asarray(read_image(path, **self.options))
