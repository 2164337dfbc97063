"""Marginals of token sets: how much mass each token carries."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_tokens(lengths: Tensor | None, shape: tuple[int, ...], device: torch.device) -> Tensor | None:
    """Which of the ``shape = (sets, points, tokens)`` tokens stand before the end of their set; None if all
    do.

    ``lengths`` is (sets,) or (sets, points).
    """
    if lengths is None:
        return None
    lengths = lengths.to(device)
    if lengths.ndim == 1:
        lengths = lengths[:, None].expand(shape[:2])
    return torch.arange(shape[2], device=device) < lengths[..., None]


def marginals(
    weights: Tensor | None, valid: Tensor | None, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Masses of shape ``shape`` that sum to one along the last dimension: ``weights`` (default: all equal)
    on the valid tokens, zero on the others.
    """
    mass = (
        torch.ones(shape, device=device)
        if weights is None
        else weights.to(device, torch.float32).expand(shape)
    )
    if valid is not None:
        mass = mass * valid
    return mass / mass.sum(-1, keepdim=True)
