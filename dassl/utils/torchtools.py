"""Parameters of a network, counted."""

from collections.abc import Iterable

import torch
from torch import nn

from .checkpoint import (  # noqa: F401  (they are imported from this module too)
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)

__all__ = ["count_num_param"]


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Number of parameters of a network, or in ``params`` (tensors, or an optimiser's groups of them)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("model and params must provide at least one.")
    count = 0
    for item in params:
        tensors = item["params"] if isinstance(item, dict) else item
        count += sum(p.numel() for p in ([tensors] if isinstance(tensors, torch.Tensor) else tensors))
    return count
