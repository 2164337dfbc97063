"""Token transport in plain torch: any device, memory within a stated budget.

The problems are worked off in blocks of (some images) x (some classes of equal length). In a block the
similarities are one product (``alignment.products``) with the text tokens as rows and the image tokens as columns,
so that the long axis (image tokens) is contiguous and every step of the Sinkhorn iteration is a vectorised pass over

    scores (class prompts, L, image prompts, P)

which on a CPU stays in the cache. The gradient holds the plan constant (envelope theorem):

    d similarity / d x_j = sum_l T_jl y_l,    d similarity / d y_l = sum_j T_jl x_j

For it the forward pass keeps the plans that fit into the budget, and of every other problem the column scaling
(L numbers) from which the backward pass computes the plan again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment.pair_blocks import Block, Blocks
from alignment.products import product, transposed_product
from alignment.sinkhorn import sinkhorn_plan
from alignment.unit import unit, unit_gradient


@dataclass(frozen=True)
class Stopping:
    """eps and the stopping rule of the Sinkhorn iteration (see ``alignment.token_transport``)."""

    eps: float = 0.1
    max_iter: int = 100
    stop: str = "problem"
    tol: float = 1e-2


def token_similarity(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    class_lengths: Tensor | None,
    stopping: Stopping,
    normalize: bool,
    memory: int,
) -> Tensor:
    """sum(T * <x, y>) of all problems, (B, C, M, N), differentiable in ``image`` and ``text``.

    Parameters
    ----------
    image, text : features (B, M, P, d) and (C, N, L, d), finite also where they are padding.
    image_mass, text_mass : marginals (B, M, P) and (C, N, L), zero at padding.
    class_lengths : (C,) text tokens of the longest prompt of each class, or None when all are L.
    normalize : scale the features to unit norm, in their dtype.
    memory : bytes that may be taken beside inputs (and these scaled), result and gradients.
    """
    return _TokenSimilarity.apply(
        image, text, image_mass, text_mass, class_lengths, stopping, normalize, memory
    )


@torch.no_grad()
def token_plans(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    class_lengths: Tensor | None,
    stopping: Stopping,
    normalize: bool,
    memory: int,
) -> Tensor:
    """The plans themselves, (B, C, M, N, P, L), zero at padding. Arguments as in ``token_similarity``."""
    (B, M, P, _), (C, N, L, _) = image.shape, text.shape
    if normalize:
        image, text = unit(image)[0], unit(text)[0]
    blocks = Blocks.plan(image, text, class_lengths, memory)
    solver = _BlockSolver(image, text, image_mass, text_mass, stopping)
    plans = torch.zeros(B, C, M, N, P, L, device=image.device)
    for block in blocks:
        plan, _, _ = solver.solve(block)
        plan = plan.unflatten(2, (-1, M)).unflatten(0, (-1, N))  # (k, N, L, b, M, P)
        plans[block.images, block.classes, ..., : block.length] = plan.permute(3, 0, 4, 1, 5, 2)
    return plans


class _TokenSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, text, image_mass, text_mass, class_lengths, stopping, normalize, memory):
        (B, M, _, _), (C, N, _, _) = image.shape, text.shape
        given = []
        if normalize:
            given = [image, text]
            (image, image_norm), (text, text_norm) = unit(image), unit(text)
            given += [image_norm, text_norm]
        blocks = Blocks.plan(image, text, class_lengths, memory)
        solver = _BlockSolver(image, text, image_mass, text_mass, stopping)
        similarity = torch.empty(B, C, M, N, device=image.device)
        # What is kept for the gradient is allocated first: between the temporary tensors it would leave holes.
        kept, is_plan = [], []
        if any(ctx.needs_input_grad[:2]):
            room = memory - blocks.workspace
            for block in blocks:
                *points, P = solver.shape(block)
                room -= 4 * math.prod(points) * P
                is_plan.append(room >= 0)
                kept.append(torch.empty(*points, P if is_plan[-1] else 1, device=image.device))
        for i, block in enumerate(blocks):
            _, value, before = solver.solve(block, out=kept[i] if kept and is_plan[i] else None)
            if kept and not is_plan[i]:
                kept[i].copy_(before)
            value = value.unflatten(1, (-1, M)).unflatten(0, (-1, N))  # (k, N, b, M)
            similarity[block.images, block.classes] = value.permute(2, 0, 3, 1)
        ctx.save_for_backward(image, text, image_mass, text_mass, *kept, *given)
        ctx.blocks, ctx.stopping, ctx.is_plan, ctx.normalize = blocks, stopping, is_plan, normalize
        return similarity

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        image, text, image_mass, text_mass, *kept = ctx.saved_tensors
        kept, given = kept[: len(ctx.is_plan)], kept[len(ctx.is_plan) :]
        d = image.shape[-1]
        solver = _BlockSolver(image, text, image_mass, text_mass, ctx.stopping)
        of_image, of_text = (
            torch.zeros(tokens.shape, device=tokens.device) if needed else None
            for tokens, needed in zip((image, text), ctx.needs_input_grad)
        )
        with torch.autocast(image.device.type, enabled=False):
            for block, plan, is_plan in zip(ctx.blocks, kept, ctx.is_plan):
                if not is_plan:
                    plan, _, _ = solver.solve(block, again_from=plan)
                g = gradient[block.images, block.classes].float().permute(1, 3, 0, 2)  # (k, N, b, M)
                g = g.reshape(plan.shape[0], 1, plan.shape[2], 1)
                x, y = solver.features(block)
                flow = torch.mul(plan, g, out=solver.buffer("work", plan.shape)).view(len(y), len(x))
                if of_image is not None:
                    of_image[block.images].view(-1, d).addmm_(flow.T, y)
                if of_text is not None:
                    share = transposed_product(flow, x).view(-1, text.shape[1], block.length, d)
                    if isinstance(block.classes, slice):
                        of_text[block.classes, :, : block.length] += share
                    else:
                        of_text[:, :, : block.length].index_add_(0, block.classes, share)
        gradients = [of_image, of_text]
        if ctx.normalize:
            gradients = [
                None if g is None else unit_gradient(g, tokens, norm)
                for g, tokens, norm in zip(gradients, given[:2], given[2:])
            ]
        of_image, of_text = (
            None if g is None else g.to(tokens.dtype) for g, tokens in zip(gradients, (image, text))
        )
        return of_image, of_text, *[None] * 6


class _BlockSolver:
    """Solves blocks in buffers that all of them share."""

    def __init__(self, image, text, image_mass, text_mass, stopping) -> None:
        self.image, self.text = image, text
        self.image_mass, self.text_mass = image_mass, text_mass
        self.stopping = stopping
        self._buffers: dict[str, Tensor] = {}
        self._images, self._x = slice(0, 0), image

    def shape(self, block: Block) -> tuple[int, int, int, int]:
        """(kN, L, bM, P) of the block's plans."""
        (b, M, P), (k, N, _) = self.image_mass[block.images].shape, self.text_mass[block.classes].shape
        return k * N, block.length, b * M, P

    def buffer(self, name: str, shape: tuple[int, ...]) -> Tensor:
        size = torch.Size(shape).numel()
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, device=self.image.device)
        return self._buffers[name][:size].view(shape)

    def features(self, block: Block) -> tuple[Tensor, Tensor]:
        """fp32 matrices (tokens, d) of the block's image and text tokens."""
        d = self.image.shape[-1]
        if block.images != self._images:
            self._images, self._x = block.images, self.image[block.images].float().reshape(-1, d)
        return self._x, self.text[block.classes, :, : block.length].float().reshape(-1, d)

    @torch.no_grad()
    def solve(
        self, block: Block, *, out: Tensor | None = None, again_from: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Plans (kN, L, bM, P), similarities (kN, bM), and the column scalings from which ``again_from`` gives
        the same plans in one step. The plans live until the next block unless they go to ``out``.
        """
        M, N = self.image.shape[1], self.text.shape[1]
        eps, once = self.stopping.eps, again_from is not None
        x, y = self.features(block)
        shape = self.shape(block)
        rows = self.image_mass[block.images].reshape(1, 1, *shape[2:])
        cols = self.text_mass[block.classes, :, : block.length].reshape(-1, block.length, 1, 1)
        with torch.autocast(x.device.type, enabled=False):
            scores = product(y / eps, x).view(shape)
        plan, before = sinkhorn_plan(
            scores,
            rows,
            cols,
            row_dim=3,
            col_dim=1,
            eps=eps,
            max_iter=1 if once else self.stopping.max_iter,
            tol=None if once or self.stopping.stop == "fixed" else self.stopping.tol,
            mean=_mean(rows > 0, M, N, together=self.stopping.stop == "release"),
            start=again_from,
            out=self.buffer("plan", shape) if out is None else out,
            work=self.buffer("work", shape),
        )
        return plan, scores.mul_(plan).sum(3).sum(1).mul_(eps), before


def _mean(present: Tensor, M: int, N: int, *, together: bool):
    """Mean of a change (kN, 1, bM, P) over the image tokens of a problem, or of a pair's M x N problems."""
    count = present.sum(-1, keepdim=True)  # (1, 1, bM, 1)

    def mean(change: Tensor) -> Tensor:
        total = change.sum(-1, keepdim=True)
        if not together:
            return total / count
        (kN, _, bM, _) = total.shape
        pair = total.view(-1, N, bM // M, M).sum((1, 3), keepdim=True)
        pair = pair / (count.view(1, 1, -1, M).sum(3, keepdim=True) * N)
        return pair.expand(-1, N, -1, M).reshape(kN, 1, bM, 1)

    return mean
