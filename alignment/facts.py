"""What there is to know of a solved problem beside its value.

A problem's facts stand in the last dimension of one tensor, in the order of ``Fact``. With the plan T, a = T 1 and
b = T' 1:

    MASS       m = sum(T)
    ENTROPY    sum(T log T), minus the plan's entropy. Where a marginal is relaxed it is
               KL(T | u v') - H(u) - H(v) = sum(T log(T / (u v'))) - m + 1 + sum(u log u) + sum(v log v),
               which is the same for a plan that meets both
    PENALTY    reach_u KL(a | u) + reach_v KL(b | v) of the relaxed marginals, KL(a | u) = sum(a log(a / u) - a + u).
               The gradient of the weights comes in here (``weight_gradients``): that of the Lagrangian
    ROW_ERROR  sum |a - u|: the mass that the rows lack or have too much after the last step; of rows that are not to
               meet u the distance to what the next step would give them
    ITERATIONS how many were made
    CONVERGED  1, or 0 where the rule would have gone on behind the last iteration

The regularised optimum is <T, C> + eps ENTROPY + PENALTY.
"""

from __future__ import annotations

import enum
import math

import torch
from torch import Tensor

from alignment.partial import cut_off
from alignment.rule import Rule
from alignment.sinkhorn import Solution


class Fact(enum.IntEnum):
    MASS = 0
    ENTROPY = 1
    PENALTY = 2
    ROW_ERROR = 3
    ITERATIONS = 4
    CONVERGED = 5


def facts_of(
    solution: Solution, rows: Tensor, cols: Tensor, rule: Rule, row_dim: int, col_dim: int
) -> Tensor:
    """Facts (problems..., 6) of the problems of ``alignment.sinkhorn.solve``, whose arguments these are, with size 1
    in the dimensions of rows and columns.
    """
    plan = solution.plan

    def total(x: Tensor) -> Tensor:
        return x.sum((row_dim, col_dim), keepdim=True)

    a, b = plan.sum(col_dim, keepdim=True), plan.sum(row_dim, keepdim=True)
    mass, entropy, penalty = total(a), total(torch.special.xlogy(plan, plan)), torch.zeros_like(total(a))
    if rule.relaxed:
        reference = total(torch.special.xlogy(rows - a, rows)) + total(torch.special.xlogy(cols - b, cols))
        entropy = entropy + reference + 1 - mass
        for marginal, wanted, reach in ((a, rows, rule.reach[0]), (b, cols, rule.reach[1])):
            if reach < math.inf:
                penalty = penalty + reach * total(_kl(marginal, wanted))
    row_error = total((a - rows_wanted(a, solution.r, rows, rule, row_dim)).abs())
    converged = 1.0 if solution.unfinished is None else 1.0 - solution.unfinished.to(plan.dtype)
    zero = torch.zeros_like(mass)
    facts = (mass, entropy, penalty, row_error, zero + solution.iterations, zero + converged)
    return torch.stack(facts, dim=-1)


def rows_wanted(a: Tensor, r: Tensor, rows: Tensor, rule: Rule, row_dim: int) -> Tensor:
    """What the next step would make of the rows' masses ``a``."""
    if rule.balanced:
        return rows
    log_sum = torch.where(rows > 0, a.log() - r, 0.0)  # log(K c) of the last columns
    if rule.partial:
        return (log_sum + cut_off(rows.log() - log_sum, rows, rule.mass, row_dim)).exp()
    p, _ = rule.powers
    return rows * ((1 - p) * (log_sum - 1 / rule.eps)).exp()


def weight_gradients(r: Tensor, c: Tensor, rows: Tensor, cols: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Derivatives of the regularised optimum with respect to the masses u and v, each up to a constant.

    eps log r and eps log c, of a mass that bounds nothing this constant; of a relaxed side
    eps log u + (reach + eps) (1 - a / u). A mass of zero has none.
    """
    if not rule.logarithms:
        r, c = r.log(), c.log()
    results = []
    for log, mass, reach in ((r + 1 / rule.eps, rows, rule.reach[0]), (c, cols, rule.reach[1])):
        gradient = rule.eps * log
        if reach < math.inf:
            share = torch.expm1(-rule.eps / reach * (log - mass.log()))  # a / u - 1
            gradient = rule.eps * mass.log() - (reach + rule.eps) * share
        results.append(torch.where(mass > 0, gradient, 0.0))
    return results[0], results[1]


def _kl(a: Tensor, u: Tensor) -> Tensor:
    """Terms of KL(a | u); where u is zero a is."""
    return torch.special.xlogy(a, a) - torch.special.xlogy(a, u) - a + u
