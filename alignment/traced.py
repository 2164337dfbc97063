"""The whole transport as one graph of torch operations, for exporters: the size of a batch stays a symbol.

What the other solvers do block by block, in place and with an eye on memory, stands here in a few lines without any of
that. A loop that ends when every problem has stopped becomes the graph's own loop, so the iterations are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from alignment.marginals import marginals, valid_tokens
from alignment.rule import SMALLEST_SCALING_EPS

Mean = Callable[[Tensor], Tensor]


def is_asked_for() -> bool:
    """Whether a model is being exported, which torch can tell from 2.7 on."""
    return getattr(torch.compiler, "is_exporting", bool)()


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
    """``alignment.hierarchical_transport``, whose arguments these are, of features of unit norm."""
    together, rule = stop == "release", (eps, max_iter, None if stop == "fixed" else tol)
    cosine = torch.einsum("bmd,cnd->bcmn", image_points.float(), text_points.float())
    _, C, M, N = cosine.shape
    cost = 1 - cosine
    if image_tokens is not None and text_tokens is not None:
        shape = tuple(text_tokens.shape[:3])
        similarity = torch.einsum("bmpd,cnld->bcmnpl", image_tokens.float(), text_tokens.float())
        mass = marginals(
            None, valid_tokens(text_lengths, shape, text_tokens.device), shape, text_tokens.device
        )
        mass = (similarity[..., 0, :] * 0 + mass[None, :, None]).reshape(-1, shape[2])

        def of_a_pair(change: Tensor) -> Tensor:
            return change.view(-1, M * N).mean(1, keepdim=True).expand(-1, M * N).reshape(-1)

        flat = similarity.reshape(-1, image_tokens.shape[2], shape[2])
        level = (_plans(flat, mass, of_a_pair if together else None, *rule) * flat).sum((1, 2))
        level = level.view(-1, C, M, N)
        cost = cost + beta * (1 - level if variant == "paper" else level)

    def of_all(change: Tensor) -> Tensor:
        return change.mean().expand_as(change)

    flat = (1 - cost).reshape(-1, M, N)
    if min(M, N) == 1:
        plan = torch.full_like(cost, 1 / (M * N))  # the marginals leave no other
    else:
        uniform = torch.full_like(flat[:, 0], 1 / N)
        plan = _plans(flat, uniform, of_all if together else None, *rule).view_as(cost)
    return 1 - (plan * cost).sum((-2, -1)) if variant == "paper" else (plan * cosine).sum((-2, -1))


def _plans(
    similarity: Tensor, cols: Tensor, mean: Mean | None, eps: float, max_iter: int, tol: float | None
) -> Tensor:
    """The plans (X, P, L) of ``alignment.sinkhorn`` for similarities (X, P, L), uniform rows and columns (X, L).

    Args:
        mean: of changes (X,), over the problems that stop together; None: each by itself.
        tol: None: ``max_iter`` iterations.
    """
    from torch._higher_order_ops import while_loop  # no public name yet; nothing else here needs it

    scores, u = similarity / eps, 1 / similarity.shape[1]
    logarithms = eps < SMALLEST_SCALING_EPS
    if logarithms:
        cols, limit = cols.log(), tol
        r, c = torch.full_like(scores[:, :, 0], -1 / eps), torch.where(cols > -math.inf, 0.0, cols)
    else:
        unit = math.exp(-1 / eps)
        limit = None if tol is None else tol * unit
        scores = scores.exp()
        r, c = torch.full_like(scores[:, :, 0], unit), (cols > 0).to(cols.dtype)

    def steps_are_left(i: Tensor, r: Tensor, c: Tensor, going: Tensor) -> Tensor:
        return (i < max_iter) & going.any()

    def step(i: Tensor, r: Tensor, c: Tensor, going: Tensor) -> tuple[Tensor, ...]:
        if logarithms:
            new_r = math.log(u) - (scores + c[:, None]).logsumexp(2)
            new_c = cols - (scores + new_r[:, :, None]).logsumexp(1)
        else:
            new_r = u / (scores * c[:, None]).sum(2)
            new_c = cols / (scores * new_r[:, :, None]).sum(1)
        still = going.clone()
        if limit is not None:
            change = (new_r - r).abs().mean(1)
            still = still & ((change if mean is None else mean(change)) >= limit)
        return i + 1, torch.where(going[:, None], new_r, r), torch.where(going[:, None], new_c, c), still

    first = torch.zeros((), dtype=torch.int64, device=r.device)
    going = torch.ones_like(r[:, 0], dtype=torch.bool)
    _, r, c, _ = while_loop(steps_are_left, step, (first, r, c, going))
    if logarithms:
        return (scores + r[:, :, None] + c[:, None]).exp()
    return scores * r[:, :, None] * c[:, None]
