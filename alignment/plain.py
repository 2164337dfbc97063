"""Token transport in plain torch: any device, memory within a stated budget.

The problems are worked off in blocks of (some images) x (some classes of equal length). In a block the
similarities are one matrix product with the text tokens as rows and the image tokens as columns, so that the
long axis (image tokens) is contiguous and every step of the Sinkhorn iteration is a vectorised pass over the
block:

    scores (class prompts, L, image prompts, P)

On a CPU a block is small enough to stay in the cache. The gradient holds the plan constant (envelope
theorem):

    d similarity / d x_j = sum_l T_jl y_l,    d similarity / d y_l = sum_j T_jl x_j

For it the forward pass keeps the plans where they fit into the budget, else one column scaling per problem
from which the backward pass computes the plan again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment.sinkhorn import sinkhorn_plan

CPU_BLOCK_CELLS = 1 << 20  # three fp32 buffers of this size stay in a last-level cache
BLOCK_COLUMNS = 4096  # image tokens per block: enough for the matrix product to be efficient
BUFFERS = 4  # block-sized fp32 tensors alive at a time


@dataclass(frozen=True)
class Stopping:
    """eps and the stopping rule of the Sinkhorn iteration (see ``alignment.token_transport``)."""

    eps: float = 0.1
    max_iter: int = 100
    stop: str = "problem"
    tol: float = 1e-2


@dataclass(frozen=True)
class Block:
    images: slice
    classes: slice | Tensor  # a slice where the classes stand in a row, else their indices
    length: int  # text tokens of the longest prompt among these classes


def token_similarity(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    class_lengths: Tensor | None,
    stopping: Stopping,
    memory: int,
) -> Tensor:
    """sum(T * <x, y>) of every cell, (B, C, M, N), differentiable in ``image`` (B, M, P, d) and ``text`` (C,
    N, L, d).

    ``image_mass`` (B, M, P) and ``text_mass`` (C, N, L) are the marginals, zero at padding (where features
    must be finite); ``class_lengths`` (C,) the longest prompt of each class, None when all are L.
    """
    return _TokenSimilarity.apply(image, text, image_mass, text_mass, class_lengths, stopping, memory)


@torch.no_grad()
def token_plans(image, text, image_mass, text_mass, class_lengths, stopping, memory) -> Tensor:
    """The plans themselves, (B, C, M, N, P, L), zero at padding."""
    (B, M, P, _), (C, N, L, _) = image.shape, text.shape
    plans = torch.zeros(B, C, M, N, P, L, device=image.device)
    for block, plan, _, _ in _solve(image, text, image_mass, text_mass, class_lengths, stopping, memory):
        k, b = plan.shape[0] // N, plan.shape[2] // M
        plan = plan.view(k, N, block.length, b, M, P).permute(3, 0, 4, 1, 5, 2)
        plans[block.images, block.classes, ..., : block.length] = plan
    return plans


class _TokenSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, text, image_mass, text_mass, class_lengths, stopping, memory):
        (B, M, P, _), (C, N, L, _) = image.shape, text.shape
        differentiate = any(ctx.needs_input_grad[:2])
        plan_bytes = 4 * B * M * P * N * (C * L if class_lengths is None else int(class_lengths.sum()))
        keep_plans = differentiate and 2 * plan_bytes <= memory
        if keep_plans:
            memory -= plan_bytes
        similarity = torch.empty(B, C, M, N, device=image.device)
        kept = []
        for block, plan, value, before in _solve(
            image, text, image_mass, text_mass, class_lengths, stopping, memory, fresh_plans=keep_plans
        ):
            similarity[block.images, block.classes] = value
            if differentiate:
                kept.append(plan if keep_plans else before)
        ctx.save_for_backward(image, text, image_mass, text_mass, class_lengths, *kept)
        ctx.stopping, ctx.memory, ctx.keep_plans = stopping, memory, keep_plans
        return similarity

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        image, text, image_mass, text_mass, class_lengths, *kept = ctx.saved_tensors
        (_, M, P, d), (_, N, _, _) = image.shape, text.shape
        need_image, need_text = ctx.needs_input_grad[:2]
        image_gradient = torch.zeros(image.shape, device=image.device) if need_image else None
        text_gradient = torch.zeros(text.shape, device=text.device) if need_text else None
        features = _Features(image, text)
        work = None
        if ctx.keep_plans:
            blocks = zip(_blocks(image, text, class_lengths, ctx.memory), kept)
        else:
            solved = _solve(
                image, text, image_mass, text_mass, class_lengths, ctx.stopping, ctx.memory, starts=iter(kept)
            )
            blocks = ((block, plan) for block, plan, _, _ in solved)
        with torch.autocast(image.device.type, enabled=False):
            for block, plan in blocks:
                x, y = features(block)
                k, b = plan.shape[0] // N, plan.shape[2] // M
                g = (
                    gradient[block.images, block.classes]
                    .float()
                    .permute(1, 3, 0, 2)
                    .reshape(k * N, 1, b * M, 1)
                )
                if work is None or work.numel() < plan.numel():
                    work = torch.empty(plan.numel(), device=plan.device)
                flow = torch.mul(plan, g, out=work[: plan.numel()].view(plan.shape))
                flow = flow.view(k * N * block.length, b * M * P)
                if image_gradient is not None:
                    image_gradient[block.images].view(-1, d).addmm_(flow.T, y)
                if text_gradient is not None:
                    share = (flow @ x).view(k, N, block.length, d)
                    if isinstance(block.classes, slice):
                        text_gradient[block.classes, :, : block.length] += share
                    else:
                        text_gradient[:, :, : block.length].index_add_(0, block.classes, share)
        return (
            None if image_gradient is None else image_gradient.to(image.dtype),
            None if text_gradient is None else text_gradient.to(text.dtype),
            *[None] * 5,
        )


class _Features:
    """fp32 matrices (tokens, d) of a block's image and text tokens."""

    def __init__(self, image: Tensor, text: Tensor) -> None:
        self.image, self.text = image, text
        self.images, self.x = slice(0, 0), image

    def __call__(self, block: Block) -> tuple[Tensor, Tensor]:
        d = self.image.shape[-1]
        if block.images != self.images:
            self.images, self.x = block.images, self.image[block.images].float().reshape(-1, d)
        return self.x, self.text[block.classes, :, : block.length].float().reshape(-1, d)


def _solve(
    image, text, image_mass, text_mass, class_lengths, stopping, memory, *, starts=None, fresh_plans=False
) -> Iterator[tuple[Block, Tensor, Tensor, Tensor]]:
    """Per block: the block, plans (kN, L, bM, P), similarities (b, k, M, N) and the last column scalings.

    ``starts`` gives those scalings again and the same plans follow in one step. Plans live until the next
    block unless ``fresh_plans``.
    """
    (_, M, P, _), N = image.shape, text.shape[1]
    eps = stopping.eps
    features = _Features(image, text)
    scores_buffer = work_buffer = plan_buffer = torch.empty(0, device=image.device)
    with torch.autocast(image.device.type, enabled=False):
        for block in _blocks(image, text, class_lengths, memory):
            x, y = features(block)
            shape = (y.shape[0] // block.length, block.length, x.shape[0] // P, P)
            cells = y.shape[0] * x.shape[0]
            if scores_buffer.numel() < cells:
                scores_buffer, work_buffer = scores_buffer.new_empty(cells), scores_buffer.new_empty(cells)
                plan_buffer = plan_buffer if fresh_plans else scores_buffer.new_empty(cells)
            scores, work = scores_buffer[:cells].view(shape), work_buffer[:cells].view(shape)
            plan = scores.new_empty(shape) if fresh_plans else plan_buffer[:cells].view(shape)
            torch.mm(y / eps, x.T, out=scores.view(y.shape[0], x.shape[0]))
            rows = image_mass[block.images].reshape(1, 1, -1, P)
            cols = text_mass[block.classes, :, : block.length].reshape(-1, block.length, 1, 1)
            once = starts is not None
            plan, before = sinkhorn_plan(
                scores,
                rows,
                cols,
                row_dim=3,
                col_dim=1,
                eps=eps,
                max_iter=1 if once else stopping.max_iter,
                tol=None if once or stopping.stop == "fixed" else stopping.tol,
                mean=_mean(rows > 0, M, N, together=stopping.stop == "release"),
                start=next(starts) if starts is not None else None,
                out=plan,
                work=work,
            )
            value = torch.mul(plan, scores, out=work).sum((1, 3)).mul_(eps)
            value = value.view(-1, N, shape[2] // M, M).permute(2, 0, 3, 1)
            yield block, plan, value, before


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


def _blocks(image: Tensor, text: Tensor, class_lengths: Tensor | None, memory: int) -> Iterator[Block]:
    (B, M, P, _), (C, N, L, _) = image.shape, text.shape
    cells = max(1, memory // (4 * BUFFERS))
    if not image.is_cuda:
        cells = min(cells, CPU_BLOCK_CELLS)
    images = max(1, min(B, BLOCK_COLUMNS // (M * P), cells // (M * P * N * L)))
    for length, members in _by_length(class_lengths, C, L):
        together = max(1, cells // (images * M * P * N * length))
        for b in range(0, B, images):
            for k in range(0, len(members), together):
                chunk = members[k : k + together]
                in_a_row = chunk[-1] - chunk[0] == len(chunk) - 1
                classes = (
                    slice(chunk[0], chunk[-1] + 1) if in_a_row else torch.tensor(chunk, device=text.device)
                )
                yield Block(slice(b, min(B, b + images)), classes, length)


def _by_length(class_lengths: Tensor | None, C: int, L: int) -> list[tuple[int, list[int]]]:
    if class_lengths is None:
        return [(L, list(range(C)))]
    groups: dict[int, list[int]] = {}
    for c, length in enumerate(class_lengths.tolist()):
        groups.setdefault(length, []).append(c)
    return sorted(groups.items())
