"""Sinkhorn's scaling iteration on a stack of problems that share one tensor.

A problem is two sets of points, their scores ``S`` (a cost is ``-S`` up to a constant) and two marginals
``u``, ``v``. The plan of entropic optimal transport is ``T = diag(r) K diag(c)`` with ``K = exp(S)``; the
scalings solve

    r = u / (K c),    c = v / (K^T r)

and are iterated in that order from ``r = c = 1`` [1]. After the last step the columns meet ``v`` exactly,
the rows meet ``u`` up to the stopping rule.

[1] M. Cuturi, Sinkhorn distances: lightspeed computation of optimal transport, NeurIPS 2013.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Below this regularisation exp(+-cosine / eps) and its products leave the range of fp32: iterate on
# logarithms.
SMALLEST_SCALING_EPS = 0.05

# On a GPU the question "has every problem stopped?" makes the host wait, so it is asked only this often, and not at
# all while a CUDA graph is captured. The answer saves work and changes nothing: a problem that has stopped keeps its
# scalings.
GPU_CHECK_EVERY = 8

Mean = Callable[[Tensor], Tensor]


@torch.no_grad()
def sinkhorn_plan(
    scores: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    row_dim: int,
    col_dim: int,
    eps: float,
    max_iter: int = 100,
    tol: float | None = 1e-2,
    mean: Mean | None = None,
    start: Tensor | None = None,
    out: Tensor | None = None,
    work: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Plans of all problems in ``scores``.

    Parameters
    ----------
    scores : similarities divided by ``eps``, fp32, any shape; one dimension runs over the first set
        (``row_dim``), one over the second (``col_dim``), the others over problems.
    rows, cols : marginals ``u`` and ``v``, broadcastable to ``scores`` with size 1 along ``col_dim`` /
        ``row_dim``. Each sums to one; a point of mass zero takes no part.
    eps : regularisation that ``scores`` have been divided by. The kernel of the definition is ``exp((S - 1)
        / eps)``; the constant only rescales ``r``, and with it the stopping rule.
    max_iter, tol, mean : stop a problem once ``mean(|r - r_previous|) < tol``, at the latest after
        ``max_iter`` steps. ``mean`` maps the change to a mean over the points, or over a group of problems,
        that broadcasts back; ``tol=None`` always makes ``max_iter`` steps. Below eps = 0.05 the change is
        that of ``log r``.
    start : column scaling to start from instead of 1 (its logarithm below eps = 0.05).
    out, work : buffers of the shape of ``scores`` (``out`` receives the plan); allocated when missing.

    Returns
    -------
    plan, before : the plans, and the column scaling that entered each problem's last step: one step from
        there (``start=before, max_iter=1, tol=None``) gives the same plan again.
    """
    iterate = _scale if eps >= SMALLEST_SCALING_EPS else _scale_logarithms
    out = torch.empty_like(scores) if out is None else out
    work = torch.empty_like(scores) if work is None else work
    return iterate(scores, rows, cols, row_dim, col_dim, eps, max_iter, tol, mean, start, out, work)


def _scale(scores, rows, cols, row_dim, col_dim, eps, max_iter, tol, mean, start, kernel, work):
    torch.exp(scores, out=kernel)
    unit = math.exp(-1 / eps)  # kernel is exp((S - 1) / eps) without this factor, so r is measured in it

    def step(c: Tensor) -> tuple[Tensor, Tensor]:
        r = rows / torch.mul(kernel, c, out=work).sum(col_dim, keepdim=True)
        return r, cols / torch.mul(kernel, r, out=work).sum(row_dim, keepdim=True)

    r = (rows > 0) * unit
    c = (cols > 0).to(cols.dtype) if start is None else start
    r, c, before = _iterate(step, r, c, max_iter, None if tol is None else tol * unit, mean)
    return kernel.mul_(r).mul_(c), before


def _scale_logarithms(scores, rows, cols, row_dim, col_dim, eps, max_iter, tol, mean, start, plan, work):
    rows, cols = rows.log(), cols.log()
    present = rows > -math.inf

    def step(c: Tensor) -> tuple[Tensor, Tensor]:
        r = rows - torch.add(scores, c, out=work).logsumexp(col_dim, keepdim=True)
        return r, cols - torch.add(scores, r, out=work).logsumexp(row_dim, keepdim=True)

    def change(difference: Tensor) -> Tensor:
        assert mean is not None
        return mean(torch.where(present, difference, 0.0))

    c = torch.where(cols > -math.inf, 0.0, -math.inf) if start is None else start
    r, c, before = _iterate(step, torch.full_like(rows, -1 / eps), c, max_iter, tol, change)
    return torch.add(scores, r, out=plan).add_(c).exp_(), before


def _iterate(step, r, c, max_iter, tol, mean):
    """Repeat ``step`` until all problems have stopped; one that has keeps its ``r``, ``c`` and ``before``."""
    before, running = c, None  # None: all are
    every = _check_every(r.device, max_iter)
    for i in range(1, max_iter + 1):
        r_new, c_new = step(c)
        difference = None if tol is None else (r_new - r).abs_()
        if running is None:
            r, c, before = r_new, c_new, c
        else:
            before = torch.where(running, c, before)
            r, c = torch.where(running, r_new, r), torch.where(running, c_new, c)
        if difference is None:
            continue
        still = mean(difference) >= tol
        running = still if running is None else running & still
        if i % every == 0:
            if not running.any():
                break
            if every == 1 and running.all():
                running = None
    return r, c, before


def _check_every(device: torch.device, max_iter: int) -> int:
    if device.type != "cuda":
        return 1
    capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return max_iter + 1 if capturing else GPU_CHECK_EVERY
