"""How a Sinkhorn iteration goes and where it ends: regularisation, reach, stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

# Below this regularisation exp(+-cosine / eps) and its products leave the range of fp32: iterate on
# logarithms.
SMALLEST_SCALING_EPS = 0.05

BALANCED = (math.inf, math.inf)


@dataclass(frozen=True)
class Rule:
    """Attributes as in ``alignment.token_transport``.

    ``logarithms`` is the form of the iteration, which changes nothing but the rounding: those of the scalings instead
    of the scalings.
    """

    eps: float = 0.1
    max_iter: int = 100
    stop: str = "problem"
    tol: float = 1e-2
    reach: tuple[float, float] = BALANCED
    schedule: tuple[float, ...] = ()
    logarithms: bool = False

    @classmethod
    def of(
        cls,
        eps: float,
        max_iter: int,
        stop: str,
        tol: float,
        *,
        dtype: torch.dtype = torch.float32,
        reach: tuple[float, float] = BALANCED,
        schedule: tuple[float, ...] = (),
        logarithms: bool | None = None,
        any_cost: bool = False,
    ) -> Rule:
        """With the form that suits the numbers where ``logarithms`` is None.

        fp32 holds the scalings of costs up to 2 at eps 0.05 or more. Relaxed marginals take powers, and a schedule
        other kernels, of which the logarithms are the simple form.
        """
        needed = eps < SMALLEST_SCALING_EPS or reach != BALANCED or bool(schedule)
        wanted = any_cost or dtype == torch.float64 if logarithms is None else logarithms
        return cls(eps, max_iter, stop, tol, reach, schedule, needed or wanted)

    @property
    def threshold(self) -> float | None:
        """Of the mean change; None: all ``max_iter`` iterations are made."""
        return None if self.stop == "fixed" else self.tol

    @property
    def together(self) -> bool:
        """Whether problems share their mean change."""
        return self.stop == "release"

    @property
    def balanced(self) -> bool:
        return self.reach == BALANCED

    @property
    def of_logarithms(self) -> bool:
        """Whether the change that stops is that of log r. (At large eps it is that of r itself, as in the released
        code, whichever of the two is iterated. With a finite reach r is of the order of its mass, so its change says
        nothing.)
        """
        return self.eps < SMALLEST_SCALING_EPS or not self.balanced

    @property
    def powers(self) -> tuple[float, float]:
        """Of the updates of rows and of columns: rho / (rho + eps), 1 where a marginal is met exactly."""
        rows, cols = (1.0 if rho == math.inf else rho / (rho + self.eps) for rho in self.reach)
        return rows, cols
