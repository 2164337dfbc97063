"""Prompt transport: optimal transport between an image's M prompts and a class's N prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alignment import checks, dense
from alignment.choice import FLOAT64, choose
from alignment.convergence import Unfinished
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
    implementation: str = "auto",
) -> Tensor:
    r"""Plans :math:`\arg\min_{T \in U(u, v)} \langle T, C \rangle - \epsilon H(T)` of dense costs, without
    gradient.

    Parameters
    ----------
    cost : (B, C, M, N), for instance 1 - cosine. All else that there is for given costs (relaxed marginals, the
        regularised optimum, ...) is ``token_transport(cost=cost[:, :, None, None])``.
    image_weights, text_weights : weights >= 0, broadcastable to (B, C, M) and (B, C, N), scaled to sum to
        one; default uniform.
    eps, max_iter, tol : as in ``alignment.token_transport``.
    stop : ``"problem"``: each of the B x C problems stops by itself; ``"release"``: all together, by the
        mean change over the batch (MMTPA's and PLOT's released code: the result of an image depends on its
        batch mates); ``"fixed"``: ``max_iter`` iterations.
    implementation : ``"plain"``, ``"fused"`` (a GPU kernel) or ``"auto"``, which takes the kernel on a CUDA device
        for problems of up to 16384 cells, both sides padded to powers of two.

    Returns
    -------
    (B, C, M, N) plans of mass one, fp32 (float64 of float64).

    Examples
    --------
    >>> prompt_plan(torch.rand(2, 3, 4, 5)).sum((-2, -1)).round(decimals=3)
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """
    checks.check_rank("cost", cost, "(B, C, M, N)")
    checks.check_floating("cost", cost)
    checks.check_not_empty("cost", cost)
    checks.check_solver(eps, max_iter, stop, tol)
    B, C, M, N = cost.shape
    for name, weights, shape in (
        ("image_weights", image_weights, (B, C, M)),
        ("text_weights", text_weights, (B, C, N)),
    ):
        if weights is not None:
            checks.check_weights(name, weights, shape, None, wait=False)
    dtype = torch.promote_types(cost.dtype, torch.float32)
    why_plain = FLOAT64 if dtype == torch.float64 else None
    chosen = choose("prompt", cost, M, N, implementation, why_plain)
    rule = Rule.of(eps, max_iter, stop, tol, dtype=dtype)
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        rows = marginals(image_weights, None, (B, C, M), cost.device, dtype)
        cols = marginals(text_weights, None, (B, C, N), cost.device, dtype)
        dense_cost = cost.detach().to(dtype)
        if dense.is_asked_for():
            return dense.plans_between(1 - dense_cost, rows[..., None], cols[..., None, :], rule)
        if chosen == "fused":
            from alignment.fused import prompt as fused

            plan = fused.prompt_plan(
                dense_cost.contiguous(),
                rows.contiguous(),
                cols.contiguous(),
                eps,
                max_iter,
                -1.0 if stop == "fixed" else tol,
                stop == "release",
            )
        else:
            plan = _plain(dense_cost, rows, cols, rule)
    if not plan.is_cuda and not torch.isfinite(plan).all():
        raise ValueError(
            f"cost of shape {tuple(cost.shape)} holds non-finite values, or values too large for eps {eps}: "
            "no plan exists"
        )
    return plan


def _plain(cost: Tensor, rows: Tensor, cols: Tensor, rule: Rule) -> Tensor:
    B, C, M, N = cost.shape
    # (M, N, problems): M and N are small, so the many problems are the contiguous axis.
    scores = (1 - cost).flatten(0, 1).permute(1, 2, 0).contiguous() / rule.eps
    u, v = rows.view(B * C, M, 1).permute(1, 2, 0), cols.view(B * C, 1, N).permute(1, 2, 0)
    # The release's mean runs over the M rows of all problems.
    over = (0, 1, 2) if rule.together else (0, 1)

    def mean(change: Tensor) -> Tensor:
        return change.mean(over, keepdim=True)

    solution = solve(scores, u, v, rule, row_dim=0, col_dim=1, mean=mean)
    with Unfinished(rule) as unfinished:
        unfinished.look(solution, u, 0, 1, lambda number: divmod(number, C))
    return solution.plan.permute(2, 0, 1).reshape(B, C, M, N)


def prompt_transport(cost: Tensor, **options: Any) -> Tensor:
    r"""Transport costs :math:`\langle T^*, C \rangle`, (B, C), of dense costs (B, C, M, N); fp32, or float64.

    The gradient reaches ``cost`` with the plan held constant. Options and errors are those of ``prompt_plan``.
    """
    plan = prompt_plan(cost, **options)
    return (plan * cost.to(plan.dtype)).sum((-2, -1))
