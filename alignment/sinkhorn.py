"""Sinkhorn's scaling iteration on a stack of problems that share one tensor.

A problem is two sets of points, their scores ``S`` (a cost is ``-S`` up to a constant) and two marginals
``u``, ``v``. The plan of entropic optimal transport is ``T = diag(r) K diag(c)`` with ``K = exp(S)``; the
scalings solve

    r = u / (K c),    c = v / (K^T r)

and are iterated in that order from ``r = c = 1`` [1]. After the last step the columns meet ``v`` exactly,
the rows meet ``u`` up to the stopping rule.

Where a marginal may be missed at a price (``alignment.token_transport``, ``reach``), its update takes a power [2], of
the kernel with the constant, ``K = exp((S - 1) / eps)``, from c = v:

    r = u (K c)^-p,    c = v (K^T r)^-q,    p = reach_u / (reach_u + eps),    q = reach_v / (reach_v + eps)

Where the marginals are bounds between which a given mass is moved, its update is cut off (``alignment.partial``):

    r = min(u / (K c), h),    c = min(v / (K^T r), k),    h and k such that the plan has that mass

[1] M. Cuturi, Sinkhorn distances: lightspeed computation of optimal transport, NeurIPS 2013.
[2] L. Chizat et al., Scaling algorithms for unbalanced optimal transport problems, Mathematics of Computation 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from alignment.partial import cut_off
from alignment.rule import Rule

# On a GPU the question "has every problem stopped?" makes the host wait, so it is asked only this often, and not at
# all while a CUDA graph is captured. The answer saves work and changes nothing: a problem that has stopped keeps its
# scalings.
GPU_CHECK_EVERY = 8

Mean = Callable[[Tensor], Tensor]


class Solution(NamedTuple):
    """Of all problems; ``r`` and ``c`` are logarithms where the rule iterates those."""

    plan: Tensor
    r: Tensor  #: of the kernel exp(S / eps): e^(-1 / eps) times that of exp((S - 1) / eps)
    c: Tensor
    #: The column scaling that entered each problem's last step: one step from there gives the same plan again.
    before: Tensor
    #: Which problems (dimensions that the mean runs over have size 1) made ``max_iter`` steps and would make more; None
    #: where no rule was given.
    unfinished: Tensor | None
    iterations: Tensor | float  #: of each problem, where they were counted


@torch.no_grad()
def solve(
    scores: Tensor,
    rows: Tensor,
    cols: Tensor,
    rule: Rule,
    *,
    row_dim: int,
    col_dim: int,
    mean: Mean,
    start: Tensor | None = None,
    once: bool = False,
    count: bool = False,
    ask: bool = True,
    out: Tensor | None = None,
    work: Tensor | None = None,
) -> Solution:
    """Solve all problems in ``scores``.

    Parameters
    ----------
    scores : similarities divided by ``rule.eps``, fp32 or fp64, any shape; one dimension runs over the first set
        (``row_dim``), one over the second (``col_dim``), the others over problems.
    rows, cols : marginals ``u`` and ``v``, broadcastable to ``scores`` with size 1 along ``col_dim`` /
        ``row_dim``. Each sums to one; a point of mass zero takes no part.
    rule : when problems stop. The kernel of the definition is ``exp((S - 1) / eps)``; the constant only rescales
        ``r``, and with it the stopping rule.
    mean : from the change ``|r - r_previous|`` of each point to a mean over the points of a problem, or of a group of
        problems, that broadcasts back.
    start : column scaling (or its logarithm) to start from instead of 1.
    once : make one step, whatever the rule.
    count : count the iterations of each problem.
    ask : on a GPU, from time to time whether all have stopped, which waits for it; else all iterations are made.
    out, work : buffers of the shape of ``scores`` (``out`` receives the plan); allocated when missing.
    """
    out = torch.empty_like(scores) if out is None else out
    work = torch.empty_like(scores) if work is None else work
    max_iter, threshold = rule.max_iter, rule.threshold
    if once:
        max_iter, threshold, rule = 1, None, replace(rule, schedule=())
    iterate = _logarithms if rule.logarithms else _scalings
    options = {
        "max_iter": max_iter,
        "tol": threshold,
        "count": count,
        "every": _check_every(scores, max_iter, ask),
    }
    return iterate(scores, rows, cols, rule, row_dim, col_dim, mean, start, out, work, options)


def _scalings(scores, rows, cols, rule, row_dim, col_dim, mean, start, kernel, work, options):
    torch.exp(scores, out=kernel)
    unit = math.exp(-1 / rule.eps)  # kernel is exp((S - 1) / eps) without this factor, so r is measured in it

    def step(c: Tensor) -> tuple[Tensor, Tensor]:
        r = rows / torch.mul(kernel, c, out=work).sum(col_dim, keepdim=True)
        return r, cols / torch.mul(kernel, r, out=work).sum(row_dim, keepdim=True)

    def change(r_new: Tensor, r: Tensor) -> Tensor:
        return mean((r_new - r).abs_())

    r = (rows > 0) * unit
    c = (cols > 0).to(cols.dtype) if start is None else start
    tol = None if options["tol"] is None else options["tol"] * unit
    r, c, *ends = _iterate(step, change, r, c, **{**options, "tol": tol})
    return Solution(kernel.mul_(r).mul_(c), r, c, *ends)


def _logarithms(scores, rows, cols, rule, row_dim, col_dim, mean, start, plan, work, options):
    present, masses = rows > 0, (rows, cols)
    rows, cols = rows.log(), cols.log()
    rest = cols if rule.relaxed else torch.zeros_like(cols)  # log c of the potential zero
    c = rest.where(cols > -math.inf, -math.inf) if start is None else start

    def at(eps: float, c: Tensor):
        """The iteration at another eps, of which the kernel is a power of that of ``scores``."""
        stage = replace(rule, eps=eps)
        power, (p, q) = rule.eps / eps, stage.powers

        def total(x: Tensor, dim: int) -> Tensor:
            return torch.add(x, scores, alpha=power, out=work).logsumexp(dim, keepdim=True)

        def step(c: Tensor) -> tuple[Tensor, Tensor]:
            if stage.balanced:
                r = rows - total(c, col_dim)
                return r, cols - total(r, row_dim)
            if stage.partial:
                r = cut_off(rows - total(c, col_dim), masses[0], stage.mass, row_dim)
                return r, cut_off(cols - total(r, row_dim), masses[1], stage.mass, col_dim)
            r = rows - p * total(c, col_dim) - (1 - p) / eps  # where the power reaches the kernel's constant
            return r, cols - q * total(r, row_dim)

        def change(r_new: Tensor, r: Tensor) -> Tensor:
            if not stage.of_logarithms:
                r_new, r = ((x + 1 / eps).exp() for x in (r_new, r))
            return mean(torch.where(present, (r_new - r).abs_(), 0.0).nan_to_num_(nan=math.inf))

        return _iterate(step, change, torch.full_like(rows, -1 / eps), c, **options)

    eps = rule.eps
    for larger in rule.schedule:  # from stage to stage the potentials stay
        c = at(larger, _at_other_eps(c, rest, eps / larger))[1]
        eps = larger
    r, c, *ends = at(rule.eps, _at_other_eps(c, rest, eps / rule.eps))
    return Solution(torch.add(scores, r, out=plan).add_(c).exp_(), r, c, *ends)


def _at_other_eps(c: Tensor, rest: Tensor, ratio: float) -> Tensor:
    """log c of the same potential, which is eps times what it is above that of ``rest``."""
    return c if ratio == 1 else torch.where(c > -math.inf, rest + (c - rest) * ratio, -math.inf)


def _iterate(step, change, r, c, *, max_iter, tol, count, every):
    """Repeat ``step`` until all problems have stopped; one that has keeps its ``r``, ``c`` and ``before``.

    Returns r, c, before, which problems had to stop, and how many iterations each made.
    """
    before, running = c, None  # None: all are
    iterations: Tensor | float = 0.0
    for i in range(1, max_iter + 1):
        r_new, c_new = step(c)
        mean = None if tol is None else change(r_new, r)
        if count:
            iterations = iterations + (1.0 if running is None else running)
        if running is None:
            r, c, before = r_new, c_new, c
        else:
            before = torch.where(running, c, before)
            r, c = torch.where(running, r_new, r), torch.where(running, c_new, c)
        if mean is None:
            continue
        still = mean >= tol
        running = still if running is None else running & still
        if i % every == 0:
            if not running.any():
                break
            if every == 1 and i < max_iter and running.all():
                running = None
    return r, c, before, running, iterations


def _check_every(scores: Tensor, max_iter: int, ask: bool) -> int:
    if not scores.is_cuda:
        return 1
    capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return max_iter + 1 if capturing or not ask else GPU_CHECK_EVERY
