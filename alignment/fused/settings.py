"""What the operators take beside tensors: torch wants single numbers of them, the code between has them as one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignment.problems import Problems
from alignment.rule import Rule

EXACT = -1.0  # the reach, for the operators, of a marginal that is met


@dataclass(frozen=True)
class Settings:
    """A rule and how to compute, as the operators' arguments say them."""

    eps: float
    normalize: bool
    allow_tf32: bool
    memory: int
    reach_rows: float
    reach_cols: float
    logarithms: bool
    max_iter: int = 1
    tol: float = -1.0  # negative: all iterations
    together: bool = False

    @classmethod
    def of(cls, problems: Problems, allow_tf32: bool) -> Settings:
        rule = problems.rule
        rows, cols = (EXACT if rho == math.inf else rho for rho in rule.reach)
        return cls(
            rule.eps,
            problems.normalize,
            allow_tf32,
            problems.memory,
            rows,
            cols,
            rule.logarithms,
            rule.max_iter,
            -1.0 if rule.threshold is None else rule.threshold,
            rule.together,
        )

    @cached_property
    def rule(self) -> Rule:
        rows, cols = (rho if rho >= 0 else math.inf for rho in (self.reach_rows, self.reach_cols))
        stop = "fixed" if self.tol < 0 else "release" if self.together else "problem"
        return Rule.of(
            self.eps, self.max_iter, stop, self.tol, reach=(rows, cols), logarithms=self.logarithms
        )

    @cached_property
    def of_kernels(self) -> dict[str, Any]:
        """The arguments that all kernels of sets of tokens have."""
        p, q = self.rule.powers
        return {
            "reach_rows": self.reach_rows,
            "reach_cols": self.reach_cols,
            "power_rows": p,
            "power_cols": q,
            "scale": math.log2(math.e) / self.eps,
            "LOGARITHMS": self.rule.logarithms,
            "BALANCED": self.rule.balanced,
        }

    def dtype(self, tokens: Tensor) -> torch.dtype:
        """Of the products; fp16 has the mantissa of TF32, and what is multiplied is at most about one."""
        return torch.float16 if self.allow_tf32 and tokens.dtype == torch.float32 else tokens.dtype
