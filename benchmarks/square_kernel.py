"""A doubly stochastic kernel of the commodity kind, for measuring against: square problems of up to 16 x 16, a fixed
number of iterations, plans out of costs that are in memory.

Rows and columns of exp(-cost / eps) are scaled in turn to sum to one, all in the registers of one program.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST = 16
ITERATIONS = 20


def fits(rows: int, cols: int) -> bool:
    """Whether problems of these sizes are of the kind that the kernel takes."""
    return rows == cols <= LARGEST


def square_plans(cost: Tensor, eps: float) -> Tensor:
    """Plans (X, n, n) of mass one of contiguous fp32 costs (X, n, n), uniform marginals; columns are met exactly."""
    plan = torch.empty_like(cost)
    n = cost.shape[-1]
    with torch.cuda.device(cost.device if cost.is_cuda else -1):
        _kernel[(len(cost),)](
            cost, plan, n, math.log2(math.e) / eps, ITERATIONS, SIZE=triton.next_power_of_2(n), num_warps=1
        )
    return plan


@triton.jit
def _kernel(cost, plan, n, scale, iterations, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    inside = (i < n)[:, None] & (i < n)[None, :]
    cell = tl.program_id(0).to(tl.int64) * n * n + i[:, None] * n + i[None, :]
    k = tl.where(inside, tl.exp2(-tl.load(cost + cell, mask=inside, other=0.0) * scale), 0.0)
    for _ in range(iterations):
        rows = tl.sum(k, axis=1)
        k = k / tl.where(rows > 0, rows, 1.0)[:, None]
        cols = tl.sum(k, axis=0)
        k = k / tl.where(cols > 0, cols, 1.0)[None, :]
    tl.store(plan + cell, k / n, mask=inside)
