"""Prompt transport: optimal transport between an image's M prompts and a class's N prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignment import checks, dense
from alignment.arguments import why_plain
from alignment.choice import choose
from alignment.convergence import Unfinished
from alignment.diagnostics import Diagnostics, diagnostics_of
from alignment.facts import facts_of
from alignment.marginals import marginals
from alignment.rule import Rule
from alignment.sinkhorn import solve


def prompt_plan(
    cost: Tensor,
    *,
    image_weights: Tensor | None = None,
    text_weights: Tensor | None = None,
    eps: float = 0.1,
    max_iter: int = 100,
    stop: str = "problem",
    tol: float = 1e-2,
    reach: float | tuple[float, float] = math.inf,
    mass: float = 1.0,
    schedule: Sequence[float] = (),
    start: Tensor | None = None,
    diagnostics: bool = False,
    implementation: str = "auto",
) -> Any:
    r"""Plans :math:`\arg\min_{T \in U(u, v)} \langle T, C \rangle - \epsilon H(T)` of dense costs, without
    gradient.

    Parameters
    ----------
    cost : (B, C, M, N), for instance 1 - cosine. The regularised optimum of given costs, and gradients of weights and
        eps, are ``token_transport(cost=cost[:, :, None, None])``.
    image_weights, text_weights : weights >= 0, broadcastable to (B, C, M) and (B, C, N), scaled to sum to
        one; default uniform.
    eps, max_iter, tol, reach, mass, schedule : as in ``alignment.token_transport``.
    stop : ``"problem"``: each of the B x C problems stops by itself; ``"release"``: all together, by the
        mean change over the batch (MMTPA's and PLOT's released code: the result of an image depends on its
        batch mates); ``"fixed"``: ``max_iter`` iterations.
    start : (B, C, N) potentials of the text prompts to start from, as ``diagnostics`` give them.
    diagnostics : return a pair, the plans and ``alignment.Diagnostics``, of shape (B, C), its potentials (B, C, N).
    implementation : ``"plain"``, ``"fused"`` (a GPU kernel) or ``"auto"``, which takes the kernel on a CUDA device
        for problems of up to 16384 cells, both sides padded to powers of two. ``reach``, ``mass``, ``schedule``,
        ``start`` and ``diagnostics`` are the plain solver's, which then makes all ``max_iter`` iterations on a GPU, so
        that nothing waits.

    Returns
    -------
    (B, C, M, N) plans of mass one (``mass``; less with a finite ``reach``), fp32 (float64 of float64).

    Examples
    --------
    >>> prompt_plan(torch.rand(2, 3, 4, 5)).sum((-2, -1)).round(decimals=3)
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    >>> plan, how = prompt_plan(torch.rand(2, 3, 4, 5), mass=0.8, diagnostics=True)
    >>> bool((plan.sum(-2) < 1 / 5 + 1e-6).all()), how.mass.round(decimals=3).unique()
    (True, tensor([0.8000]))
    """
    checks.check_rank("cost", cost, "(B, C, M, N)")
    checks.check_floating("cost", cost)
    checks.check_not_empty("cost", cost)
    B, C, M, N = cost.shape
    dtype = torch.promote_types(cost.dtype, torch.float32)
    rule = Rule.asked(eps, max_iter, stop, tol, reach=reach, mass=mass, schedule=schedule, dtype=dtype)
    for name, weights, shape in (
        ("image_weights", image_weights, (B, C, M)),
        ("text_weights", text_weights, (B, C, N)),
    ):
        if weights is not None:
            checks.check_weights(name, weights, shape, None, wait=False)
    if start is not None:
        checks.check_shape("start", start, (B, C, N), "(B, C, N)")
    lacking = why_plain(dtype, rule, start)
    for name, given in (("reach", rule.relaxed), ("diagnostics", diagnostics)):
        if given:
            lacking = f"{name} is given, which it has not for prompts"
    chosen = choose("prompt", cost, M, N, implementation, lacking)
    how: Diagnostics | None = None
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        rows = marginals(image_weights, None, (B, C, M), cost.device, dtype)
        cols = marginals(text_weights, None, (B, C, N), cost.device, dtype)
        dense_cost = cost.detach().to(dtype)
        if dense.is_asked_for():
            u, v = rows[..., None], cols[..., None, :]
            solution = dense.solution_between(1 - dense_cost, u, v, rule, start)
            plan = solution.plan
            if diagnostics:
                facts = facts_of(solution, u, v, rule, -2, -1)[..., 0, 0, :]
                how = diagnostics_of(facts, solution.c[..., 0, :] * rule.eps)
        elif chosen == "fused":
            from alignment.fused import prompt as fused

            plan = fused.prompt_plan(
                dense_cost.contiguous(),
                rows.contiguous(),
                cols.contiguous(),
                rule.eps,
                max_iter,
                -1.0 if stop == "fixed" else tol,
                stop == "release",
            )
        else:
            plan, how = _plain(dense_cost, rows, cols, rule, start, diagnostics, ask=lacking is None)
    if checks.can_look(plan, wait=False) and not torch.isfinite(plan).all():
        raise ValueError(
            f"cost of shape {tuple(cost.shape)} holds non-finite values, or values too large for eps {eps}: "
            "no plan exists"
        )
    return plan if how is None else (plan, how)


def _plain(
    cost: Tensor, rows: Tensor, cols: Tensor, rule: Rule, start: Tensor | None, diagnostics: bool, ask: bool
) -> tuple[Tensor, Diagnostics | None]:
    B, C, M, N = cost.shape
    # (M, N, problems): M and N are small, so the many problems are the contiguous axis.
    scores = (1 - cost).flatten(0, 1).permute(1, 2, 0).contiguous() / rule.eps
    u, v = rows.view(B * C, M, 1).permute(1, 2, 0), cols.view(B * C, 1, N).permute(1, 2, 0)
    if start is not None:
        log = start.to(cost.dtype).view(B * C, 1, N).permute(1, 2, 0) / rule.eps
        log = torch.where(v > 0, log, -math.inf)
        start = log if rule.logarithms else log.exp()
    # The release's mean runs over the M rows of all problems.
    over = (0, 1, 2) if rule.together else (0, 1)

    def mean(change: Tensor) -> Tensor:
        return change.mean(over, keepdim=True)

    solution = solve(
        scores, u, v, rule, row_dim=0, col_dim=1, mean=mean, start=start, count=diagnostics, ask=ask
    )
    with Unfinished(rule) as unfinished:
        unfinished.look(solution, u, 0, 1, lambda number: divmod(number, C))
    how = None
    if diagnostics:
        facts = facts_of(solution, u, v, rule, 0, 1).view(B, C, -1)
        c = solution.c if rule.logarithms else solution.c.log()
        how = diagnostics_of(facts, (c[0] * rule.eps).T.reshape(B, C, N))
    return solution.plan.permute(2, 0, 1).reshape(B, C, M, N), how


def prompt_transport(cost: Tensor, **options: Any) -> Any:
    r"""Transport costs :math:`\langle T^*, C \rangle`, (B, C), of dense costs (B, C, M, N); fp32, or float64.

    The gradient reaches ``cost`` with the plan held constant. Options and errors are those of ``prompt_plan``, of which
    ``diagnostics`` makes this a pair, too.

    Examples
    --------
    >>> cost = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(1, 1, 2, 2)
    >>> prompt_transport(cost, eps=0.05).round(decimals=3), prompt_transport(cost.flip(2), mass=0.5).round(decimals=3)
    (tensor([[0.]]), tensor([[0.]]))
    """
    found = prompt_plan(cost, **options)
    plan, *how = found if isinstance(found, tuple) else (found,)
    value = (plan * cost.to(plan.dtype)).sum((-2, -1))
    return (value, *how) if how else value
