"""Products of matrices of features, at the best rate that torch has for the device.

On a CPU torch's own fp32 products go to MKL, which is slower than oneDNN on processors that are not Intel's (figures in
docs/transport.md). The sums are the same, in fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b' of the matrices (n, k) and (m, k): (n, m)."""
    if not _has_onednn(a):
        return a @ b.T
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """a b of the matrices (n, k) and (k, m): (n, m)."""
    return product(a, b.T)


def _has_onednn(a: Tensor) -> bool:
    return (
        a.device.type == "cpu"
        and a.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
