"""The three solvers of problems behind one face: "plain", "fused" and "dense" (``alignment.choice``, ``.dense``)."""

from __future__ import annotations

from torch import Tensor

from alignment import dense, plain
from alignment.problems import Problems


def similarities(
    problems: Problems, chosen: str, allow_tf32: bool, with_facts: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``alignment.plain.similarities``."""
    if chosen == "dense":
        return dense.similarities(problems)
    if chosen == "fused":
        from alignment.fused import token as fused

        return fused.similarities(problems, allow_tf32, with_facts)
    return plain.similarities(problems, with_facts)


def plans(problems: Problems, chosen: str, allow_tf32: bool) -> Tensor:
    """The plans (B, C, M, N, P, L), zero at padding."""
    if chosen == "dense":
        return dense.plans(problems)
    if chosen == "fused":
        from alignment.fused import token as fused

        return fused.plans(problems, allow_tf32)
    return plain.plans(problems)


def largest(problems: Problems, chosen: str, allow_tf32: bool, k: int) -> tuple[Tensor, Tensor]:
    """As ``alignment.plain.largest``; not under torch.func."""
    if chosen == "fused":
        from alignment.fused import token as fused

        return fused.largest(problems, allow_tf32, k)
    return plain.largest(problems, k)
