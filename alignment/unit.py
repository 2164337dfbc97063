"""Features scaled to unit norm: norms in fp32 (of fp64 in fp64), the result in the dtype of the features."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (..., d) of unit norm in their own dtype, and their fp32 norms (..., 1)."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True, dtype=dtype).clamp_min_(1e-12)
    return (tokens / norm).to(tokens.dtype), norm


def unit_gradient(gradient: Tensor, tokens: Tensor, norm: Tensor) -> Tensor:
    """From the fp32 gradient of the scaled tokens that of the tokens, fp32."""
    scaled = tokens / norm
    along = (gradient * scaled).sum(-1, keepdim=True)
    return torch.addcmul(gradient, scaled, along, value=-1).div_(norm)
