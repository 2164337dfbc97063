"""All problems with their scores, chunk by chunk: products of features, or given costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.fused.chunks import chunks, stride_of
from alignment.fused.features import prepare
from alignment.fused.products import multiply
from alignment.fused.settings import Settings


class Sets(NamedTuple):
    """Contiguous features (B, M, P, d) and (C, N, L, d) or costs (B, C, M, N, P, L); masses (B, M, P) and (C, N, L)."""

    image: Tensor | None
    text: Tensor | None
    cost: Tensor | None
    image_mass: Tensor
    text_mass: Tensor

    def prepared(self, settings: Settings) -> tuple[Sets, list[Tensor | None]]:
        """With the features as they are multiplied, and the norms that they were divided by."""
        if self.image is None or self.text is None:
            return self, [None, None]
        dtype = settings.dtype(self.image)
        x, image_norms = prepare(self.image, self.image_mass, settings.normalize, dtype)
        y, text_norms = prepare(self.text, self.text_mass, settings.normalize, dtype)
        return self._replace(image=x, text=y), [image_norms, text_norms]


class Chunk(NamedTuple):
    """Some images and classes, the matrices (tokens, d) of their features (of costs: None), and their scores (text,
    image).
    """

    images: slice
    classes: slice
    x: Tensor | None
    y: Tensor | None
    scores: Tensor
    problems: int
    arguments: dict[str, Any]  # of the kernels

    def by_problem(self, matrix: Tensor) -> Tensor:
        """A matrix like the scores, as (b, k, M, N, P, L)."""
        M, N, P, L, points = (self.arguments[name] for name in ("M", "N", "P", "L", "points"))
        cells = matrix[:, : points * P].unflatten(1, (-1, M, P)).unflatten(0, (-1, N, L))
        return cells.permute(3, 0, 4, 1, 5, 2)


def scored(sets: Sets, cells: int) -> Iterator[Chunk]:
    """All problems in chunks of at most so many scores, which live until the next chunk."""
    image, text, cost, image_mass, text_mass = sets
    (B, M, P), (C, N, L) = image_mass.shape, text_mass.shape
    buffer = None
    for images, classes in chunks(B, C, M * P, N * L, cells):
        points, prompts = M * (images.stop - images.start), N * (classes.stop - classes.start)
        stride = stride_of(points * P)
        if buffer is None:  # the first chunk is the largest
            buffer = image_mass.new_empty(prompts * L * stride)
        scores = buffer[: prompts * L * stride].view(prompts * L, stride)
        arguments = {
            "scores": scores,
            "image_mass": image_mass[images],
            "text_mass": text_mass[classes],
            "stride": stride,
            "points": points,
            "M": M,
            "N": N,
            "P": P,
            "L": L,
            "first_image": images.start,
            "first_class": classes.start,
            "classes": C,
        }
        x = y = None
        if image is not None and text is not None:
            x, y = image[images].view(points * P, -1), text[classes].view(prompts * L, -1)
            multiply(y, x.T, scores[:, : points * P])
        chunk = Chunk(images, classes, x, y, scores, points * prompts, arguments)
        if cost is not None:
            torch.sub(1, cost[images, classes], out=chunk.by_problem(scores))
        yield chunk
