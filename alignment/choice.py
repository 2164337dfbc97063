"""Which implementation of the token transport serves a problem."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import warnings

import torch
from torch import Tensor

from alignment.sinkhorn import SMALLEST_SCALING_EPS

log = logging.getLogger(__name__)

IMPLEMENTATIONS = ("auto", "plain", "fused")


def implementation_for(
    image_tokens: Tensor,
    text_tokens: Tensor,
    *,
    eps: float = 0.1,
    stop: str = "problem",
    wanted: str = "auto",
) -> str:
    """``"fused"`` (one GPU kernel, ``alignment.fused``) or ``"plain"`` (torch, ``alignment.plain``).

    ``wanted="auto"`` takes the fused one on a CUDA device where it can, and says why not at the logging level
    DEBUG, or, where the reason is the installation or the size of the sets, in one warning.

    Raises
    ------
    ValueError
        ``wanted="fused"`` and the problem cannot be solved by it, or an unknown ``wanted``.
    """
    if wanted not in IMPLEMENTATIONS:
        raise ValueError(f"implementation is {wanted!r}, expected one of {', '.join(IMPLEMENTATIONS)}")
    if wanted == "plain":
        return "plain"
    why_not = _why_not_asked(image_tokens, eps, stop)
    if why_not is None:
        why_not = _why_not_able(image_tokens, text_tokens)
        if why_not is not None and wanted == "auto":
            _warn_once(f"token_transport takes the plain solver on {image_tokens.device}: {why_not}")
    if why_not is not None and wanted == "fused":
        raise ValueError(f"implementation 'fused' is not possible: {why_not}; 'auto' or 'plain' is")
    log.debug("token transport: %s", "fused" if why_not is None else f"plain ({why_not})")
    return "fused" if why_not is None else "plain"


def _why_not_asked(image_tokens: Tensor, eps: float, stop: str) -> str | None:
    if image_tokens.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the features are on {image_tokens.device}, not on a CUDA device"
    if stop == "release":
        return "stop='release' couples problems"
    if eps < SMALLEST_SCALING_EPS:
        return f"eps {eps} < {SMALLEST_SCALING_EPS} needs logarithms"
    return None


def _why_not_able(image_tokens: Tensor, text_tokens: Tensor) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if image_tokens.is_cuda:
        capability = torch.cuda.get_device_capability(image_tokens.device)
        if capability < (8, 0):
            return f"compute capability {capability[0]}.{capability[1]} < 8.0"
    from alignment import fused

    return fused.unsupported(image_tokens.shape[2], text_tokens.shape[2])


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
