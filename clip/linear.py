"""Linear layers of frozen towers, at the best rate that torch has for the device.

On a CPU torch's own fp32 products go to MKL, which reaches half of oneDNN's rate on processors that are not Intel's
(figures in docs/performance.md). oneDNN's layer has no gradient in torch; with frozen weights it is one more product.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 64  #: fewer are not worth the call


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b of x (..., k), W (n, k) and b (n): (..., n)."""
    if _suits_onednn(x, weight, bias):
        return _FrozenLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def _suits_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    parts = (x, weight) if bias is None else (x, weight, bias)
    return (
        all(part.device.type == "cpu" and part.dtype == torch.float32 for part in parts)
        and x.numel() >= ROWS * x.shape[-1]
        and not any(part.requires_grad for part in parts[1:])
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # inductor chooses itself
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _product(gradient, weight.t(), None), None, None
