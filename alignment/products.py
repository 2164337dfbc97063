"""Products of matrices of features, at the best rate that torch has for the device.

On a CPU they are computed as 1 x 1 convolutions, which torch gives to oneDNN; its own matrix products go to MKL,
which is slower on processors that are not Intel's (figures in docs/transport.md). The sums are the same, in fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b' of the matrices (n, k) and (m, k): (n, m)."""
    if not _convolves(a):
        return a @ b.T
    return _matrix(F.conv2d(_pixels(a), b[:, :, None, None]))


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """a b of the matrices (n, k) and (k, m): (n, m)."""
    if not _convolves(a):
        return a @ b
    return _matrix(F.conv_transpose2d(_pixels(a), b[:, :, None, None]))


def _convolves(a: Tensor) -> bool:
    return a.device.type == "cpu" and torch.backends.mkldnn.is_available()


def _pixels(a: Tensor) -> Tensor:
    """(n, k) as an image of n x 1 pixels with k channels, without a copy."""
    return a.view(1, len(a), 1, -1).permute(0, 3, 1, 2)


def _matrix(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 2, 3, 1).reshape(pixels.shape[2], -1)
