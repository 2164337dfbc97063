"""The whole transport as one graph of torch operations, for exporters: sizes of batches stay symbols.

What the other solvers do block by block, in place and with an eye on memory, stands here in a few lines without any of
that. A loop that ends when every problem has stopped becomes the graph's own loop, so the iterations are theirs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alignment.marginals import marginals, valid_tokens
from alignment.sinkhorn import SMALLEST_SCALING_EPS

#: Of a stopping rule: over which dimensions of (B, C, M, N, ...) a mean change is taken, beside that of the points.
Together = tuple[int, ...]


def hierarchical_transport(
    image_points: Tensor,
    text_points: Tensor,
    image_tokens: Tensor | None,
    text_tokens: Tensor | None,
    text_lengths: Tensor | None,
    *,
    variant: str,
    beta: float,
    eps: float,
    max_iter: int,
    stop: str,
    tol: float,
) -> Tensor:
    """Similarities (B, C) of ``alignment.hierarchical_transport``, whose arguments these are; features of unit norm."""
    cosine = torch.einsum("bmd,cnd->bcmn", image_points.float(), text_points.float())
    cost = 1 - cosine
    if image_tokens is not None and text_tokens is not None:
        x, y = image_tokens.float(), text_tokens.float()
        valid = valid_tokens(text_lengths, tuple(y.shape[:3]), y.device)
        mass = marginals(None, valid, tuple(y.shape[:3]), y.device)  # (C, N, L)
        similarity = torch.einsum("bmpd,cnld->bcmnpl", x, y)
        rows = torch.full_like(similarity[..., :1], 1 / x.shape[2])
        plan = _plan(similarity, rows, mass[None, :, None, :, None, :], (2, 3), eps, max_iter, stop, tol)
        level = (plan * similarity).sum((-2, -1))
        cost = cost + beta * (1 - level if variant == "paper" else level)
    rows = torch.full_like(cost[..., :1], 1 / cost.shape[-2])
    cols = torch.full_like(cost[:1, :1, :1], 1 / cost.shape[-1])
    plan = _plan(1 - cost, rows, cols, (0, 1), eps, max_iter, stop, tol)
    return 1 - (plan * cost).sum((-2, -1)) if variant == "paper" else (plan * cosine).sum((-2, -1))


def _plan(
    similarity: Tensor,
    rows: Tensor,
    cols: Tensor,
    together: Together,
    eps: float,
    max_iter: int,
    stop: str,
    tol: float,
) -> Tensor:
    """Plans of ``alignment.sinkhorn`` for similarities (..., P, L), rows (..., P, 1) and broadcastable columns.

    In the release's rule the problems along ``together`` share a mean.
    """
    scores = similarity / eps
    logarithms = eps < SMALLEST_SCALING_EPS
    over = (-2, *together) if stop == "release" else (-2,)
    if logarithms:
        rows, cols, limit = rows.log(), cols.log(), tol
        r, c = torch.full_like(rows, -1 / eps), torch.where(cols > -math.inf, 0.0, -math.inf)
    else:
        unit = math.exp(-1 / eps)
        kernel, limit = scores.exp(), tol * unit
        r, c = torch.full_like(rows, unit), (cols > 0).to(cols.dtype)
    c = c + torch.zeros_like(scores[..., :1, :])
    going = torch.ones_like(_mean(r, over), dtype=torch.bool)

    def keeps_going(i: Tensor, r: Tensor, c: Tensor, going: Tensor) -> Tensor:
        return (i < max_iter) & going.any()

    def step(i: Tensor, r: Tensor, c: Tensor, going: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if logarithms:
            new_r = rows - (scores + c).logsumexp(-1, keepdim=True)
            new_c = cols - (scores + new_r).logsumexp(-2, keepdim=True)
        else:
            new_r = rows / (kernel * c).sum(-1, keepdim=True)
            new_c = cols / (kernel * new_r).sum(-2, keepdim=True)
        still = going.clone() if stop == "fixed" else going & (_mean((new_r - r).abs(), over) >= limit)
        return i + 1, torch.where(going, new_r, r), torch.where(going, new_c, c), still

    first = torch.zeros((), dtype=torch.int64, device=r.device)
    _, r, c, _ = torch._higher_order_ops.while_loop(keeps_going, step, (first, r, c, going))
    return (scores + r + c).exp() if logarithms else kernel * r * c


def _mean(change: Tensor, over: Together) -> Tensor:
    return change.mean(over, keepdim=True)
