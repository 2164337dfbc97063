"""Features on their way into the products, and gradients on their way back (as ``alignment.unit``, in one launch)."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from alignment.fused.feature_kernels import finish_kernel, prepare_kernel

TOKENS = 4  # of one program, a warp for each


def prepare(
    tokens: Tensor, mass: Tensor, normalize: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Tokens (..., d) as they are multiplied: of unit norm where wanted, in a dtype, zero where their mass is; and the
    norms that they were divided by.
    """
    prepared = torch.empty_like(tokens, dtype=dtype)
    norms = torch.empty_like(mass) if normalize else None
    prepare_kernel[_programs(mass)](tokens, mass, prepared, norms, mass.numel(), **_sizes(tokens))
    return prepared, norms


def finish(
    total: Tensor, factor: Tensor | None, tokens: Tensor, mass: Tensor, norms: Tensor | None
) -> Tensor:
    """Gradient of the tokens as they were given, from ``factor`` times the fp32 one of what was multiplied."""
    gradient = torch.empty_like(tokens)
    finish_kernel[_programs(mass)](
        total, factor, tokens, mass, norms, gradient, mass.numel(), **_sizes(tokens)
    )
    return gradient


def _programs(mass: Tensor) -> tuple[int]:
    return (triton.cdiv(mass.numel(), TOKENS),)


def _sizes(tokens: Tensor) -> dict[str, Any]:
    d = tokens.shape[-1]
    return {"d": d, "TOKENS": TOKENS, "WIDTH": triton.next_power_of_2(d), "num_warps": TOKENS}
