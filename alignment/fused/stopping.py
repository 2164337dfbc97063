"""When the iterations of the fused kernels end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alignment.sinkhorn import SMALLEST_SCALING_EPS


def start_and_threshold(eps: float, tol: float) -> tuple[float, float]:
    """r before the first step, and ``tol``, in the kernels' units (``alignment.sinkhorn``: where r is measured in
    exp(-1 / eps)); of log2 r where logarithms are iterated.
    """
    if eps < SMALLEST_SCALING_EPS:
        return -math.log2(math.e) / eps, tol * math.log2(math.e)
    return math.exp(-1 / eps), tol * math.exp(-1 / eps)


def steps_until(changes: Tensor, threshold: float) -> Tensor:
    """How many steps to make, int32 (...), from the mean change of each (..., max_iter): up to the first change below
    the threshold, or all.
    """
    running = (changes[..., :-1] >= threshold).to(torch.int32)
    return 1 + running.cumprod(-1).sum(-1, dtype=torch.int32)
