"""How a Sinkhorn iteration goes and where it ends: regularisation, reach or mass, stopping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment import checks

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
    mass: float = 1.0
    schedule: tuple[float, ...] = ()
    logarithms: bool = False

    @classmethod
    def asked(
        cls,
        eps: float | Tensor,
        max_iter: int,
        stop: str,
        tol: float,
        *,
        reach: float | tuple[float, float],
        mass: float,
        schedule: Sequence[float],
        dtype: torch.dtype,
        logarithms: bool | None = None,
        any_cost: bool = False,
    ) -> Rule:
        """As ``of``, of arguments of a call, which are checked."""
        eps = float(eps.detach()) if isinstance(eps, Tensor) else float(eps)
        rows, cols = (reach, reach) if isinstance(reach, (int, float)) else reach
        reaches, schedule = (float(rows), float(cols)), tuple(schedule)
        checks.check_solver(eps, max_iter, stop, tol)
        checks.check_reach(reaches)
        checks.check_mass(mass, reaches)
        checks.check_schedule(schedule, eps)
        return cls.of(
            eps,
            max_iter,
            stop,
            tol,
            dtype=dtype,
            reach=reaches,
            mass=float(mass),
            schedule=schedule,
            logarithms=logarithms,
            any_cost=any_cost,
        )

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
        mass: float = 1.0,
        schedule: tuple[float, ...] = (),
        logarithms: bool | None = None,
        any_cost: bool = False,
    ) -> Rule:
        """With the form that suits the numbers where ``logarithms`` is None.

        fp32 holds the scalings of costs up to 2 at eps 0.05 or more. Relaxed marginals take powers, a given mass
        comparisons of any size, and a schedule other kernels, of which the logarithms are the simple form.
        """
        needed = eps < SMALLEST_SCALING_EPS or reach != BALANCED or mass < 1 or bool(schedule)
        wanted = any_cost or dtype == torch.float64 if logarithms is None else logarithms
        return cls(eps, max_iter, stop, tol, reach, mass, schedule, needed or wanted)

    @property
    def threshold(self) -> float | None:
        """Of the mean change; None: all ``max_iter`` iterations are made."""
        return None if self.stop == "fixed" else self.tol

    @property
    def together(self) -> bool:
        """Whether problems share their mean change."""
        return self.stop == "release"

    @property
    def relaxed(self) -> bool:
        """Whether a marginal may be missed at a price."""
        return self.reach != BALANCED

    @property
    def partial(self) -> bool:
        """Whether marginals are bounds, between which a given mass is moved."""
        return self.mass < 1

    @property
    def balanced(self) -> bool:
        """Whether both marginals are met."""
        return not (self.relaxed or self.partial)

    @property
    def of_logarithms(self) -> bool:
        """Whether the change that stops is that of log r. (At large eps it is that of r itself, as in the released
        code, whichever of the two is iterated. Where less than all is moved r is of the order of its mass, so its
        change says nothing.)
        """
        return self.eps < SMALLEST_SCALING_EPS or not self.balanced

    @property
    def powers(self) -> tuple[float, float]:
        """Of the updates of rows and of columns: rho / (rho + eps), 1 where a marginal is met exactly."""
        rows, cols = (1.0 if rho == math.inf else rho / (rho + self.eps) for rho in self.reach)
        return rows, cols
