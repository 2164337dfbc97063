"""Refusals of bad input: one line that names the argument, what it is and what it should be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STOPS = ("problem", "release", "fixed")
VALUES = ("cost", "similarity", "plan", "regularised")


def can_look(tensor: Tensor, wait: bool) -> bool:
    """Whether to look at values: not where that makes the host wait, unless asked to, nor under a transform of
    torch.func, where there are many at once.
    """
    return not torch._C._are_functorch_transforms_active() and (wait or not tensor.is_cuda)


def check_rank(name: str, tensor: Tensor, expected: str) -> None:
    rank = expected.count(",") + 1
    if tensor.ndim != rank:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {rank} dimensions {expected}")


def check_same_width(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape[-1] != other.shape[-1]:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} and {other_name} {tuple(other.shape)}: "
            f"the last dimensions {tensor.shape[-1]} and {other.shape[-1]} differ, expected one joint width"
        )


def check_same_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{name} is on {tensor.device} and {other_name} on {other.device}, expected one device"
        )


def check_floating(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} has dtype {tensor.dtype}, expected float32, bfloat16, float16 or float64")


def check_not_empty(name: str, tensor: Tensor) -> None:
    if tensor.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected every dimension to be at least 1")


def check_finite_tensor(name: str, tensor: Tensor) -> None:
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} holds {bad} non-finite values, expected finite ones"
        )


def check_solver(eps: float, max_iter: int, stop: str, tol: float) -> None:
    if not eps > 0:
        raise ValueError(f"eps is {eps}, expected a number > 0")
    if max_iter < 1:
        raise ValueError(f"max_iter is {max_iter}, expected at least 1")
    if stop not in STOPS:
        raise ValueError(f"stop is {stop!r}, expected one of {', '.join(STOPS)}")
    if not tol >= 0:
        raise ValueError(f"tol is {tol}, expected a number >= 0")


def check_value(value: str) -> None:
    if value not in VALUES:
        raise ValueError(f"value is {value!r}, expected one of {', '.join(VALUES)}")


def check_reach(reach: tuple[float, float]) -> None:
    for rho in reach:
        if not rho > 0:
            raise ValueError(
                f"reach is {reach}, expected numbers > 0 (infinity: that marginal is met exactly)"
            )


def check_mass(mass: float, reach: tuple[float, float]) -> None:
    if not 0 < mass <= 1:
        raise ValueError(
            f"mass is {mass}, expected a number > 0 and at most 1, which the weights of either side sum to"
        )
    if mass < 1 and min(reach) < math.inf:
        raise ValueError(
            f"mass is {mass} and reach is {reach}, expected one of them (the other is infinity, or 1)"
        )


def check_schedule(schedule: tuple[float, ...], eps: float) -> None:
    if any(not larger > eps for larger in schedule):
        raise ValueError(f"schedule is {schedule}, expected numbers above eps {eps}")


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], axes: str) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {axes} = {shape}")


def check_lengths(
    name: str, lengths: Tensor, tokens_name: str, tokens: Tensor, sizes: tuple[int, ...], wait: bool
) -> None:
    """``lengths`` of ``sizes`` = (sets, points, tokens); values on a GPU are looked at only with ``wait``."""
    sets, points, longest = sizes
    if tuple(lengths.shape) not in ((sets,), (sets, points)) or lengths.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(lengths.shape)} and dtype {lengths.dtype}, expected integers of shape "
            f"({sets},) or ({sets}, {points}) for {tokens_name} of shape {tuple(tokens.shape)}"
        )
    if not can_look(lengths, wait):
        return
    for bad in (lengths < 1, lengths > longest):
        if bad.any():
            where = bad.nonzero()[0].tolist()
            raise ValueError(
                f"{name}{where} is {int(lengths[tuple(where)])}, expected 1 to {longest} "
                f"for {tokens_name} of shape {tuple(tokens.shape)}"
            )


def check_weights(
    name: str, weights: Tensor, shape: tuple[int, ...], valid: Tensor | None, wait: bool
) -> None:
    """``weights`` that broadcast to ``shape``; values on a GPU are looked at only with ``wait``."""
    try:
        fits = torch.broadcast_shapes(weights.shape, shape) == torch.Size(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(weights.shape)}, expected {shape} or a shape that broadcasts to it"
        )
    if not can_look(weights, wait):
        return
    if not (weights >= 0).all():
        raise ValueError(
            f"{name} of shape {tuple(weights.shape)} has negative entries, expected weights >= 0"
        )
    mass = weights.expand(shape) if valid is None else weights.expand(shape) * valid.to(weights.device)
    total = mass.sum(-1)
    if not ((total > 0) & torch.isfinite(total)).all():
        where = (~((total > 0) & torch.isfinite(total))).nonzero()[0].tolist()
        raise ValueError(
            f"{name}{where} sums to {float(total[tuple(where)])} over the valid tokens, "
            "expected a finite sum > 0"
        )
