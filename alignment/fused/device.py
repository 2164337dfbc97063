"""Where the fused operators run."""

from __future__ import annotations

import torch
from torch import Tensor


def on_device(tensor: Tensor) -> torch.cuda.device:
    """Launches go to the tensor's GPU; under the interpreter there is none."""
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)
