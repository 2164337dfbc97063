"""The arguments of a call, checked, with everything filled in: what ``alignment.problems`` holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment import checks, dense
from alignment.choice import FLOAT64, choose
from alignment.marginals import marginals, valid_tokens
from alignment.problems import Problems
from alignment.rule import Rule

MEMORY = 256 * 2**20


@dataclass(frozen=True)
class Arguments:
    """As in ``alignment.token_transport``, with its defaults."""

    image_tokens: Tensor | None
    text_tokens: Tensor | None
    text_lengths: Tensor | None
    cost: Tensor | None = None
    image_lengths: Tensor | None = None
    image_weights: Tensor | None = None
    text_weights: Tensor | None = None
    eps: float | Tensor = 0.1
    max_iter: int = 100
    stop: str = "problem"
    tol: float = 1e-2
    reach: float | tuple[float, float] = math.inf
    mass: float = 1.0
    normalize: bool = False
    memory: int = MEMORY
    implementation: str = "auto"
    check_finite: bool = False
    logarithms: bool | None = None
    schedule: Sequence[float] = ()
    start: Tensor | None = None

    def problems(self) -> tuple[Problems, str]:
        """And which solver gets them: "plain", "fused" or "dense"."""
        image, text = self._sides()
        if self.cost is None:
            (B, M, P, _), (C, N, L, _) = image.shape, text.shape
        else:
            B, C, M, N, P, L = self.cost.shape
        dtype = torch.promote_types(image.dtype, text.dtype)
        computed = torch.promote_types(dtype, torch.float32)
        rule = Rule.asked(
            self.eps,
            self.max_iter,
            self.stop,
            self.tol,
            dtype=computed,
            reach=self.reach,
            mass=self.mass,
            schedule=self.schedule,
            logarithms=True if dense.is_asked_for() else self.logarithms,
            any_cost=self.cost is not None,
        )
        image_valid, image_mass = self._masses("image", image, (B, M, P), computed)
        text_valid, text_mass = self._masses("text", text, (C, N, L), computed)
        if self.start is not None:
            checks.check_shape("start", self.start, (B, C, M, N, L), "(B, C, M, N, L)")
        chosen = choose("token", image, P, L, self.implementation, why_plain(computed, rule, self.start))
        if dense.is_asked_for():
            chosen = "dense"
        cost, valid = self.cost, (image_valid, text_valid)
        if chosen == "fused":  # which does not look at padding
            valid = (None, None)
        if cost is None:
            image, text = (_without_padding(t.to(dtype), v) for t, v in zip((image, text), valid))
            features: tuple[Tensor | None, Tensor | None, Tensor | None] = (image, text, None)
        else:
            features = (None, None, _costs_without_padding(cost, *valid))
        lengths = _class_lengths(self.text_lengths)
        solved = Problems(
            *features, image_mass, text_mass, lengths, rule, self.normalize, self.memory, self.start
        )
        return solved, chosen

    def _sides(self) -> tuple[Tensor, Tensor]:
        """The features, or the costs as both."""
        if self.cost is not None:
            if self.image_tokens is not None or self.text_tokens is not None:
                raise ValueError(
                    "cost is given beside tokens, expected image_tokens and text_tokens, or cost"
                )
            if self.normalize:
                raise ValueError("normalize is True and cost is given, expected features to scale")
            self._check_tensor("cost", self.cost, "(B, C, M, N, P, L)")
            return self.cost, self.cost
        image, text = self.image_tokens, self.text_tokens
        if image is None or text is None:
            missing = "image_tokens" if image is None else "text_tokens"
            raise ValueError(f"{missing} is missing, expected image_tokens and text_tokens, or cost")
        self._check_tensor("image_tokens", image, "(B, M, P, d)")
        self._check_tensor("text_tokens", text, "(C, N, L, d)")
        checks.check_same_width("image_tokens", image, "text_tokens", text)
        checks.check_same_device("image_tokens", image, "text_tokens", text)
        return image, text

    def _check_tensor(self, name: str, tensor: Tensor, axes: str) -> None:
        checks.check_rank(name, tensor, axes)
        checks.check_floating(name, tensor)
        checks.check_not_empty(name, tensor)
        if self.check_finite:
            checks.check_finite_tensor(name, tensor)

    def _masses(
        self, side: str, given: Tensor, shape: tuple[int, int, int], dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor]:
        """Of the "image" or "text" side, whose tokens (or the costs) are ``given``: which of its tokens there are, and
        their masses.
        """
        lengths, weights = getattr(self, f"{side}_lengths"), getattr(self, f"{side}_weights")
        if lengths is not None:
            name = f"{side}_tokens" if self.cost is None else "cost"
            checks.check_lengths(f"{side}_lengths", lengths, name, given, shape, self.check_finite)
        valid = valid_tokens(lengths, shape, given.device)
        if weights is not None:
            checks.check_weights(f"{side}_weights", weights, shape, valid, self.check_finite)
        return valid, marginals(weights, valid, shape, given.device, dtype)


def why_plain(dtype: torch.dtype, rule: Rule, start: Tensor | None) -> str | None:
    """What the kernels have not of what is asked for."""
    for name, given in (
        ("mass", rule.partial),
        ("schedule", bool(rule.schedule)),
        ("start", start is not None),
    ):
        if given:
            return f"{name} is given, which it has not"
    return FLOAT64 if dtype == torch.float64 else None


def _without_padding(tokens: Tensor, valid: Tensor | None) -> Tensor:
    return tokens if valid is None else tokens.masked_fill(~valid[..., None], 0)


def _costs_without_padding(cost: Tensor, image_valid: Tensor | None, text_valid: Tensor | None) -> Tensor:
    if image_valid is not None:
        cost = cost.masked_fill(~image_valid[:, None, :, None, :, None], 0)
    if text_valid is not None:
        cost = cost.masked_fill(~text_valid[None, :, None, :, None], 0)
    return cost


def _class_lengths(text_lengths: Tensor | None) -> Tensor | None:
    """Length of the longest prompt of each class. None, which takes every class for as long as the longest, where they
    are on a GPU: to look at them is to wait for it.
    """
    if text_lengths is None or text_lengths.is_cuda or dense.is_asked_for():
        return None
    return text_lengths if text_lengths.ndim == 1 else text_lengths.amax(1)
