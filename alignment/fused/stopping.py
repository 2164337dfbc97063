"""When the iterations of the fused kernels end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alignment.rule import Rule


def start_and_threshold(rule: Rule) -> tuple[float, float]:
    """r before the first step, and ``tol`` (negative: no rule), in the kernels' units (``alignment.sinkhorn``: where r
    is measured in exp(-1 / eps)); of log2 r where logarithms are iterated.
    """
    tol = -1.0 if rule.threshold is None else rule.threshold
    if rule.logarithms:
        return -math.log2(math.e) / rule.eps, tol * (math.log2(math.e) if rule.of_logarithms else 1.0)
    return math.exp(-1 / rule.eps), tol * math.exp(-1 / rule.eps)


def steps_until(changes: Tensor, threshold: float) -> Tensor:
    """How many steps to make, int32 (...), from the mean change of each (..., max_iter): up to the first change below
    the threshold, or all.
    """
    running = (changes[..., :-1] >= threshold).to(torch.int32)
    return 1 + running.cumprod(-1).sum(-1, dtype=torch.int32)
