"""Where the scores of a block of problems come from, and where their gradient goes: features, or costs.

Both give scores (kN, L, bM, P), text tokens as rows and image tokens as columns, and take plans times gradients of that
shape, the gradient of the similarities sum(T * S eps) with the plans constant.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.pair_blocks import Block
from alignment.products import product, transposed_product
from alignment.unit import unit, unit_gradient


class OfFeatures:
    """Similarities <x, y> of tokens (B, M, P, d) and (C, N, L, d), finite also where they are padding.

        d similarity / d x_j = sum_l T_jl y_l,    d similarity / d y_l = sum_j T_jl x_j

    ``normalize`` scales them to unit norm first.
    """

    def __init__(self, image: Tensor, text: Tensor, normalize: bool, dtype: torch.dtype) -> None:
        self.given = [image, text]
        self.norms: list[Tensor] = []
        if normalize:
            (image, image_norm), (text, text_norm) = unit(image), unit(text)
            self.norms = [image_norm, text_norm]
        self.image, self.text, self.dtype = image, text, dtype
        self.sums: list[Tensor | None] = [None, None]
        self._images, self._x = slice(0, 0), image

    def start_gradients(self, wanted: tuple[bool, bool]) -> None:
        self.sums = [
            torch.zeros(tokens.shape, device=tokens.device, dtype=self.dtype) if needed else None
            for tokens, needed in zip(self.given, wanted)
        ]

    def scores(self, block: Block, eps: float) -> Tensor:
        x, y = self._features(block)
        with torch.autocast(x.device.type, enabled=False):
            return product(y / eps, x).view(
                -1, block.length, len(x) // self.image.shape[2], self.image.shape[2]
            )

    def add_gradient(self, block: Block, flow: Tensor) -> None:
        x, y = self._features(block)
        flow, d = flow.view(len(y), len(x)), x.shape[-1]
        of_image, of_text = self.sums
        if of_image is not None:
            of_image[block.images].view(-1, d).addmm_(flow.T, y)
        if of_text is not None:
            share = transposed_product(flow, x).view(-1, self.text.shape[1], block.length, d)
            if isinstance(block.classes, slice):
                of_text[block.classes, :, : block.length] += share
            else:
                of_text[:, :, : block.length].index_add_(0, block.classes, share)

    def gradients(self) -> list[Tensor | None]:
        """Of the features as they were given."""
        sums = self.sums
        if self.norms:
            sums = [
                None if g is None else unit_gradient(g, tokens, norm)
                for g, tokens, norm in zip(sums, self.given, self.norms)
            ]
        return [None if g is None else g.to(tokens.dtype) for g, tokens in zip(sums, self.given)]

    def _features(self, block: Block) -> tuple[Tensor, Tensor]:
        """Matrices (tokens, d) of the block's image and text tokens, as they are multiplied."""
        d = self.image.shape[-1]
        if block.images != self._images:
            self._images = block.images
            self._x = self.image[block.images].to(self.dtype).reshape(-1, d)
        return self._x, self.text[block.classes, :, : block.length].to(self.dtype).reshape(-1, d)


class OfCosts:
    """Similarities 1 - cost of costs (B, C, M, N, P, L), finite also where they are padding."""

    def __init__(self, cost: Tensor, dtype: torch.dtype) -> None:
        self.cost, self.dtype = cost, dtype
        self.sum: Tensor | None = None

    def start_gradients(self, wanted: tuple[bool]) -> None:
        if wanted[0]:
            self.sum = torch.zeros_like(self.cost)

    def scores(self, block: Block, eps: float) -> Tensor:
        cost = self.cost[block.images, block.classes, ..., : block.length]  # (b, k, M, N, P, l)
        cost = cost.permute(1, 3, 5, 0, 2, 4).to(self.dtype)  # (k, N, l, b, M, P)
        return ((1 - cost) / eps).contiguous().flatten(3, 4).flatten(0, 1)

    def add_gradient(self, block: Block, flow: Tensor) -> None:
        if self.sum is not None:
            M, N = self.cost.shape[2:4]
            flow = flow.unflatten(2, (-1, M)).unflatten(0, (-1, N)).permute(3, 0, 4, 1, 5, 2)
            self.sum[block.images, block.classes, ..., : block.length] = -flow.to(self.sum.dtype)

    def gradients(self) -> list[Tensor | None]:
        return [self.sum]
