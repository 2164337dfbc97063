"""Token transport on a GPU: what the operators give of ``alignment.problems``.

alignment.fused.forward   alignment::transport
alignment.fused.gradient  alignment::transport_gradient, its derivative
alignment.fused.plans     alignment::transport_plans
"""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.fused.forward import transport
from alignment.fused.gradient import transport_gradient
from alignment.fused.plans import transport_plans
from alignment.fused.settings import Settings
from alignment.problems import Problems
from alignment.rule import Rule

__all__ = ["largest", "plans", "similarities", "token_similarity", "transport", "transport_gradient"]


def token_similarity(
    image: Tensor,
    text: Tensor,
    image_mass: Tensor,
    text_mass: Tensor,
    eps: float,
    max_iter: int,
    tol: float | None,
    together: bool,
    normalize: bool,
    allow_tf32: bool,
    memory: int,
) -> Tensor:
    """sum(T * <x, y>) of all problems, (B, C, M, N).

    ``image`` (B, M, P, d) and ``text`` (C, N, L, d) have one dtype, ``image_mass`` and ``text_mass`` are their fp32
    marginals; what tokens of mass zero hold does not matter. ``tol=None`` makes ``max_iter`` iterations; ``together``
    stops the M x N problems of a pair by their common mean.
    """
    stop = "fixed" if tol is None else "release" if together else "problem"
    rule = Rule.of(eps, max_iter, stop, 0.0 if tol is None else tol)
    problems = Problems(image, text, None, image_mass, text_mass, None, rule, normalize, memory)
    return similarities(problems, allow_tf32, with_facts=False)[0]


def similarities(problems: Problems, allow_tf32: bool, with_facts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As ``alignment.plain.similarities``."""
    similarity, _, facts, potentials = _transport(problems, Settings.of(problems, allow_tf32), with_facts)
    return similarity, facts, potentials


def plans(problems: Problems, allow_tf32: bool) -> Tensor:
    """The plans (B, C, M, N, P, L), from the stored column scalings."""
    return _plans(problems, allow_tf32, 0)[0]


def largest(problems: Problems, allow_tf32: bool, k: int) -> tuple[Tensor, Tensor]:
    """As ``alignment.plain.largest``."""
    return _plans(problems, allow_tf32, k)


@torch.no_grad()
def _plans(problems: Problems, allow_tf32: bool, k: int) -> tuple[Tensor, Tensor]:
    s = Settings.of(problems, allow_tf32)
    _, before, _, _ = _transport(problems, s, with_facts=False)
    image, text, cost, *masses = _contiguous(problems)
    return transport_plans(
        *(image, text, *masses, before, s.eps, s.normalize, s.allow_tf32, s.memory, k),
        *(cost, s.reach_rows, s.reach_cols, s.logarithms),
    )


def _transport(problems: Problems, s: Settings, with_facts: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    image, text, cost, *masses = _contiguous(problems)
    return transport(
        *(image, text, *masses, s.eps, s.max_iter, s.tol, s.together, s.normalize, s.allow_tf32, s.memory),
        *(cost, s.reach_rows, s.reach_cols, s.logarithms, with_facts),
    )


def _contiguous(problems: Problems) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in problems.tensors]
