"""Linear layers of frozen towers, and attention, at the best rate that torch has for the device.

On a CPU torch's own fp32 products go to MKL, which reaches half of oneDNN's rate on processors that are not Intel's
(figures in docs/performance.md). oneDNN's layer has no gradient in torch; with frozen weights it is one more product.

Products of 16 bits are fp32 ones with a rounded result where the processor has no instructions for them: torch imitates
these number by number, fp16 up to a hundred times slower than fp32.
"""

import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 64  #: fewer are not worth the call


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b of x (..., k), W (n, k) and b (n): (..., n)."""
    if _suits_onednn(x, weight, bias):
        return _FrozenLinear.apply(x.to(weight.dtype), weight, bias)  # as autocast casts it
    return F.linear(x, weight, bias)


def _suits_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    own = (weight,) if bias is None else (weight, bias)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return (
        not torch.compiler.is_compiling()  # inductor chooses itself
        and all(part.device.type == "cpu" for part in (x, *own))
        and not any(part.requires_grad or part.dtype != dtype for part in own)
        and (is_imitated(dtype) or (dtype == torch.float32 and x.numel() >= ROWS * x.shape[-1]))
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def attend(form: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *how: Any) -> Tensor:
    """``form(q, k, v, *how)``, attention in one of its forms: that of fp32, rounded, where 16 bits are imitated."""
    if torch.compiler.is_compiling() or q.device.type != "cpu" or not is_imitated(q.dtype):
        return form(q, k, v, *how)
    with torch.autocast("cpu", enabled=False):
        return form(q.float(), k.float(), v.float(), *how).to(q.dtype)


@cache
def is_imitated(dtype: torch.dtype) -> bool:
    """Whether this processor has no instructions for products in a dtype of 16 bits."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False  # not measured, and nothing better
    if dtype == torch.bfloat16:
        return not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return dtype == torch.float16 and not torch.ops.mkldnn._is_mkldnn_fp16_supported()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    parts = (None if part is None else part.float() for part in (x, weight, bias))
    return torch.ops.mkldnn._linear_pointwise(*parts, "none", [], "").to(x.dtype)


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
