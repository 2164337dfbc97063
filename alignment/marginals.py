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
    lengths = _moved(lengths, device)
    if lengths.ndim == 1:
        lengths = lengths[:, None].expand(shape[:2])
    return torch.arange(shape[2], device=device) < lengths[..., None]


def marginals(
    weights: Tensor | None,
    valid: Tensor | None,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Masses of shape ``shape`` that sum to one along the last dimension: ``weights`` (default: all equal)
    on the valid tokens, zero on the others.
    """
    if weights is None and valid is None:
        return torch.full(shape, 1 / shape[-1], device=device, dtype=dtype)
    if weights is None:
        mass = torch.ones(shape, device=device, dtype=dtype)
    else:
        mass = _moved(weights, device).to(dtype).expand(shape)
    if valid is not None:
        mass = mass * valid
    return mass / mass.sum(-1, keepdim=True)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """Lengths or weights on the device, without the host waiting for it."""
    if values.device == device or device.type != "cuda" or not torch.cuda.is_available():
        return values.to(device)
    if torch.cuda.is_current_stream_capturing():
        raise ValueError(
            f"lengths or weights of shape {tuple(values.shape)} are on {values.device} while a CUDA graph is captured, "
            f"which would read that memory again in every replay: move them to {device} before"
        )
    return values.pin_memory().to(device, non_blocking=True)
