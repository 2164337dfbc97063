"""A warning, once, of problems whose iterations were used up before they had converged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignment.facts import rows_wanted
from alignment.rule import Rule
from alignment.sinkhorn import Solution

MISPLACED = 1e-3  #: of the mass: less than that has converged, whatever the rule says
SIDES = ("image", "class", "image prompt", "text prompt")

_told: set[tuple[float, int]] = set()  # eps and max_iter of what has been warned of


class Unfinished:
    """Notes the problems of a call, and at its end warns of the worst.

    Looks at values only where problems have used up their iterations, and never on a GPU.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.count, self.worst = 0, 0.0
        self.place: tuple[int, ...] = ()

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        if error is None:
            self.warn()

    def look(
        self,
        solution: Solution,
        rows: Tensor,
        row_dim: int,
        col_dim: int,
        place: Callable[[int], tuple[int, ...]],
    ) -> None:
        """At some problems; ``place`` tells indices (b, c, ...) of the i-th of them."""
        if solution.unfinished is None or solution.plan.is_cuda or not solution.unfinished.any():
            return
        a = solution.plan.sum(col_dim, keepdim=True)
        error = (
            (a - rows_wanted(a, solution.r, rows, self.rule, row_dim))
            .abs()
            .sum((row_dim, col_dim), keepdim=True)
        )
        self.note(torch.where(solution.unfinished, error, 0.0), place)

    def note(self, error: Tensor, place: Callable[[int], tuple[int, ...]]) -> None:
        """Errors of some problems, zero of those that have converged."""
        self.count += int((error > MISPLACED).sum())
        worst = float(error.max())
        if worst > max(self.worst, MISPLACED):
            self.worst, self.place = worst, place(int(error.argmax()))

    def warn(self) -> None:
        rule = self.rule
        if not self.count or (rule.eps, rule.max_iter) in _told:
            return
        _told.add((rule.eps, rule.max_iter))
        where = ", ".join(f"{name} {index}" for name, index in zip(SIDES, self.place))
        warnings.warn(
            f"transport: {self.count} problems did not converge in max_iter {rule.max_iter} iterations at eps "
            f"{rule.eps:g}; the worst ({where}) has {self.worst:.2g} of its mass in wrong rows. A larger max_iter "
            "or eps helps, or larger eps on the way (schedule); said once",
            RuntimeWarning,
            stacklevel=2,
        )
