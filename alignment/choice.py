"""Which implementation of a transport serves a problem."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import warnings

import torch
from torch import Tensor

log = logging.getLogger(__name__)

IMPLEMENTATIONS = ("auto", "plain", "fused")
FLOAT64 = "the kernels compute in fp32, and float64 is given"


def implementation_for(
    image_tokens: Tensor,
    text_tokens: Tensor,
    *,
    eps: float | None = None,
    stop: str | None = None,
    wanted: str = "auto",
) -> str:
    """``"fused"`` (GPU kernels, ``alignment.fused``) or ``"plain"`` (torch, ``alignment.plain``) for token sets
    (B, M, P, d) and (C, N, L, d).

    ``wanted="auto"`` takes the fused one on a CUDA device where it can, and says why not at the logging level
    DEBUG, or, where the reason is the installation or the size of the sets, in one warning. ``eps`` and ``stop`` are
    taken and decide nothing: both solvers have all of them. (A mass below 1, a schedule and a start are the plain
    solver's.)

    Raises
    ------
    ValueError
        ``wanted="fused"`` and the problem cannot be solved by it, or an unknown ``wanted``.

    Examples
    --------
    >>> implementation_for(torch.rand(2, 1, 9, 16), torch.rand(3, 1, 4, 16), wanted="plain")
    'plain'
    """
    why_plain = FLOAT64 if torch.float64 in (image_tokens.dtype, text_tokens.dtype) else None
    return choose("token", image_tokens, image_tokens.shape[2], text_tokens.shape[2], wanted, why_plain)


def choose(
    level: str, tensor: Tensor, rows: int, cols: int, wanted: str, why_plain: str | None = None
) -> str:
    """Likewise for problems of rows x cols points on the device of ``tensor``, at the "token" or "prompt" level;
    ``why_plain`` is what else asks for the plain solver.
    """
    if wanted not in IMPLEMENTATIONS:
        raise ValueError(f"implementation is {wanted!r}, expected one of {', '.join(IMPLEMENTATIONS)}")
    if wanted == "plain":
        return "plain"
    why_not = why_plain
    if why_not is None and tensor.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        why_not = f"the tensors are on {tensor.device}, not on a CUDA device"
    if why_not is None:
        why_not = _why_not_able(tensor, rows, cols)
        if why_not is not None and wanted == "auto":
            _warn_once(f"{level} transport takes the plain solver on {tensor.device}: {why_not}")
    if why_not is not None and wanted == "fused":
        raise ValueError(f"implementation 'fused' is not possible: {why_not}; 'auto' or 'plain' is")
    log.debug("%s transport: %s", level, "fused" if why_not is None else f"plain ({why_not})")
    return "fused" if why_not is None else "plain"


def _why_not_able(tensor: Tensor, rows: int, cols: int) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if (
        tensor.is_cuda and torch.cuda.is_available()
    ):  # a tensor may only claim to be on a GPU (FakeTensorMode)
        capability = torch.cuda.get_device_capability(tensor.device)
        if capability < (8, 0):
            return f"compute capability {capability[0]}.{capability[1]} < 8.0"
    from alignment.fused import sizes

    return sizes.unsupported(rows, cols)


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
