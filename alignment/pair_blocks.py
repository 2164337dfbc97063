"""Division of all (image, class) pairs into blocks that are solved one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_BLOCK_CELLS = 1 << 20  # tensors of 4 MB in fp32: those of one block stay in a last-level cache
BLOCK_COLUMNS = 4096  # image tokens of a block: enough for an efficient matrix product
CELL_TENSORS = 4  # tensors with a number per cell of the block that live at a time
TEXT_TENSORS = 3  # tensors of a block's text features that live at a time
IMAGE_TENSORS = 2  # likewise of its image features: in fp32, and as the product's library orders them


@dataclass(frozen=True)
class Block:
    images: slice
    classes: slice | Tensor  # a slice where the classes stand in a row, else their indices
    length: int  # text tokens of the longest prompt among these classes


@dataclass(frozen=True)
class Blocks:
    """Blocks of some images x some classes of equal length; iterating gives the same ones every time.

    ``workspace`` is the number of bytes that the tensors of one block take: at most half of ``memory``, unless
    one image and one class need more.
    """

    image_shape: tuple[int, ...]  # (B, M, P, d), d = 0 where costs are given instead of features
    text_shape: tuple[int, ...]  # (C, N, L, d)
    groups: list[tuple[int, list[int]]]  # length, classes of that length
    images: int  # images of a block
    memory: int
    device: torch.device
    itemsize: int  # of what is computed

    @classmethod
    def plan(
        cls,
        image_shape: tuple[int, ...],
        text_shape: tuple[int, ...],
        class_lengths: Tensor | None,
        memory: int,
        device: torch.device,
        itemsize: int = 4,
    ) -> Blocks:
        B, M, P, _ = image_shape
        C, N, L, _ = text_shape
        groups: dict[int, list[int]] = {}
        for c, length in enumerate([L] * C if class_lengths is None else class_lengths.tolist()):
            groups.setdefault(length, []).append(c)
        cells = memory // (2 * itemsize * CELL_TENSORS)
        images = max(1, min(B, BLOCK_COLUMNS // (M * P), cells // (M * P * N * L)))
        return cls(
            tuple(image_shape), tuple(text_shape), sorted(groups.items()), images, memory, device, itemsize
        )

    def _classes(self, length: int) -> int:
        """Classes of that length in a block."""
        (_, M, P, d), N = self.image_shape, self.text_shape[1]
        columns = self.images * M * P
        numbers = self.memory // (2 * self.itemsize)
        rows = (numbers - IMAGE_TENSORS * columns * d) // (CELL_TENSORS * columns + TEXT_TENSORS * d)
        if self.device.type == "cpu":
            rows = min(rows, CPU_BLOCK_CELLS // columns)
        return max(1, rows // (N * length))

    @property
    def workspace(self) -> int:
        (_, M, P, d), N = self.image_shape, self.text_shape[1]
        columns = self.images * M * P
        rows = max(min(self._classes(length), len(classes)) * N * length for length, classes in self.groups)
        return self.itemsize * (
            IMAGE_TENSORS * columns * d + rows * (CELL_TENSORS * columns + TEXT_TENSORS * d)
        )

    def __iter__(self) -> Iterator[Block]:
        B = self.image_shape[0]
        for b in range(0, B, self.images):
            for length, members in self.groups:
                step = self._classes(length)
                for k in range(0, len(members), step):
                    chunk = members[k : k + step]
                    classes: slice | Tensor = slice(chunk[0], chunk[-1] + 1)
                    if chunk[-1] - chunk[0] != len(chunk) - 1:
                        classes = torch.tensor(chunk, device=self.device)
                    yield Block(slice(b, min(B, b + self.images)), classes, length)
