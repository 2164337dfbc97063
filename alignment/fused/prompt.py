"""Plans of dense costs between prompts: ``alignment::prompt_plan``.

One launch solves all problems, each with its own stopping. Where they share their stopping rule (``together``) a
first launch makes all iterations and writes down the change of each; how many were wanted follows from the sums, and
the second launch makes those. The scalings do not depend on when somebody else stops, so the result is that of asking
after every iteration, and nobody waits for an answer.
"""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from alignment.fused import sizes
from alignment.fused.device import on_device
from alignment.fused.prompt_kernel import prompt_kernel
from alignment.fused.stopping import start_and_threshold, steps_until
from alignment.rule import Rule


@torch.library.custom_op("alignment::prompt_plan", mutates_args=())
def prompt_plan(
    cost: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float,
    together: bool,
) -> Tensor:
    """Plans (B, C, M, N) of contiguous fp32 costs (B, C, M, N) with marginals (B, C, M) and (B, C, N).

    ``tol < 0`` makes ``max_iter`` iterations.
    """
    B, C, M, N = cost.shape
    plan = torch.empty_like(cost)
    group = sizes.small_group(M, N)
    programs = triton.cdiv(B * C, group)
    rule = Rule.of(eps, max_iter, "fixed" if tol < 0 else "problem", tol)
    start, threshold = start_and_threshold(rule)

    def launch(changes: Tensor | None, steps: Tensor | None, threshold: float) -> None:
        prompt_kernel[(programs,)](
            cost,
            image_mass,
            text_mass,
            plan,
            changes,
            steps,
            B * C,
            M,
            N,
            math.log2(math.e) / eps,
            start,
            threshold,
            max_iter,
            LOGARITHMS=rule.logarithms,
            **sizes.launch(M, N, group),
        )

    with on_device(cost):
        if together and tol >= 0:
            changes = cost.new_empty(B * C, max_iter)
            launch(changes, None, -1.0)
            launch(None, steps_until(changes.sum(0) / (B * C * M), threshold), -1.0)
        else:
            launch(None, None, threshold)
    return plan


@prompt_plan.register_fake
def _(cost, image_mass, text_mass, eps, max_iter, tol, together):
    return torch.empty_like(cost)
