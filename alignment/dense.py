"""Token transport as one formula of torch operations, for ``torch.func``: every one of them can be mapped and
differentiated, none is in place and none looks at a value.

All scores are in memory at once, and ``max_iter`` iterations are made, on logarithms; a problem that has stopped keeps
its scalings, so the results are those of the other solvers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment.facts import facts_of, weight_gradients
from alignment.partial import cut_off
from alignment.problems import Problems
from alignment.rule import Rule
from alignment.sinkhorn import Solution

ROWS, COLS = -2, -1  # dimensions of image and text tokens


def is_asked_for() -> bool:
    """Whether a transform of torch.func is at work."""
    return torch._C._are_functorch_transforms_active()


def similarities(problems: Problems) -> tuple[Tensor, Tensor, Tensor]:
    """As of ``alignment.plain``, with facts."""
    similarity, rule = _similarity(problems), problems.rule
    u, v = problems.image_mass[:, None, :, None, :, None], problems.text_mass[None, :, None, :, None]
    solution = _solve(similarity.detach() / rule.eps, u.detach(), v.detach(), rule, problems.start)
    facts = facts_of(solution, u.detach(), v.detach(), rule, ROWS, COLS)[..., 0, 0, :]
    # The derivatives of the weights, with a value of zero.
    of_rows, of_cols = weight_gradients(solution.r, solution.c, u.detach(), v.detach(), rule)
    lagrangian = (of_rows * (u - u.detach())).sum((-2, -1)) + (of_cols * (v - v.detach())).sum((-2, -1))
    facts = facts.detach() + F.pad(lagrangian[..., None], (2, 3))  # into the place of PENALTY
    potentials = (solution.c * rule.eps).squeeze(ROWS)
    return (solution.plan * similarity).sum((-2, -1)), facts, potentials


def plans(problems: Problems) -> Tensor:
    u, v = problems.image_mass[:, None, :, None, :, None], problems.text_mass[None, :, None, :, None]
    return solution_between(_similarity(problems).detach(), u.detach(), v.detach(), problems.rule).plan


def solution_between(
    similarity: Tensor, u: Tensor, v: Tensor, rule: Rule, start: Tensor | None = None
) -> Solution:
    """Of similarities (..., P, L) with marginals (..., P, 1) and (..., 1, L).

    Problems that stop together are those of a pair where there are six dimensions, all where there are fewer.
    """
    return _solve(similarity / rule.eps, u, v, replace(rule, logarithms=True), start)


def _similarity(problems: Problems) -> Tensor:
    """(B, C, M, N, P, L)"""
    dtype = problems.image_mass.dtype
    if problems.cost is not None:
        return 1 - problems.cost.to(dtype)
    assert problems.image is not None
    assert problems.text is not None
    image, text = problems.image.to(dtype), problems.text.to(dtype)
    if problems.normalize:
        image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    return torch.einsum("bmpd,cnld->bcmnpl", image, text)


def _solve(scores: Tensor, u: Tensor, v: Tensor, rule: Rule, start: Tensor | None) -> Solution:
    present = (u > 0) & (v > 0)
    log_u, log_v = u.log(), v.log()
    c = torch.where(v > 0, log_v if rule.relaxed else 0.0, -math.inf)
    c = c.expand(*scores.shape[:ROWS], 1, -1)
    if start is not None:
        c = torch.where(v > 0, start[..., None, :] / rule.eps, -math.inf)
    (p, q), threshold = rule.powers, rule.threshold
    r = torch.where(u > 0, -1 / rule.eps, -math.inf).expand(*scores.shape[:COLS], 1)
    before, running = c, torch.ones_like(r[..., :1, :]) > 0
    iterations = torch.zeros_like(r[..., :1, :])
    for _ in range(rule.max_iter):
        new_r = log_u - p * _log_sum(scores + c, present, COLS) - (1 - p) / rule.eps
        if rule.partial:
            new_r = cut_off(new_r, u, rule.mass, ROWS)
        new_c = log_v - q * _log_sum(scores + new_r, present, ROWS)
        if rule.partial:
            new_c = cut_off(new_c, v, rule.mass, COLS)
        iterations = iterations + running
        going = running
        if threshold is not None:
            going = running & (_mean_change(new_r, r, u > 0, rule) >= threshold)
        before = torch.where(running, c, before)
        r, c = torch.where(running, new_r, r), torch.where(running, new_c, c)
        running = going
    plan = torch.where(present, (scores + r + c).exp(), 0.0)
    return Solution(plan, r, c, before, None if threshold is None else running, iterations)


def _log_sum(x: Tensor, present: Tensor, dim: int) -> Tensor:
    """Of a set without any mass 0, of which nothing comes."""
    total = torch.where(present, x, -math.inf).logsumexp(dim, keepdim=True)
    return torch.where(present.any(dim, keepdim=True), total, 0.0)


def _mean_change(new: Tensor, old: Tensor, present: Tensor, rule: Rule) -> Tensor:
    """Of a problem's rows, or of those of all problems of a pair."""
    if not rule.of_logarithms:
        new, old = (new + 1 / rule.eps).exp(), (old + 1 / rule.eps).exp()
    change = torch.where(present, (new - old).abs(), 0.0).nan_to_num(nan=math.inf)
    over: tuple[int, ...] = (ROWS,)
    if rule.together:
        over = (2, 3, ROWS) if change.ndim == 6 else tuple(range(change.ndim))
    return change.sum(over, keepdim=True) / present.expand(change.shape).sum(over, keepdim=True)
