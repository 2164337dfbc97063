"""How the iterations of a call went."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from alignment.facts import Fact


class Diagnostics(NamedTuple):
    """Of all problems, (B, C, M, N) or those of ``prompt_plan``, (B, C), where the features are; nobody has waited for
    them.
    """

    iterations: Tensor  #: int64
    #: sum |T 1 - u|, mass that the image tokens lack or have too much; where the rows need not meet
    #: u, what the next iteration would change
    row_error: Tensor
    at_ceiling: Tensor  #: bool: the rule would have gone on behind ``max_iter``
    mass: Tensor  #: of the plan; ``mass``, or what a finite ``reach`` left of 1
    #: (B, C, M, N, L) eps log c of the text tokens, -inf at padding: what another call takes as ``start``
    potentials: Tensor


class LevelDiagnostics(NamedTuple):
    """Of both levels of a hierarchical transport."""

    prompts: Diagnostics  #: of (B, C) problems; potentials (B, C, N)
    tokens: Diagnostics | None  #: of (B, C, M, N) problems; None where there are no tokens


def diagnostics_of(facts: Tensor, potentials: Tensor) -> Diagnostics:
    facts = facts.detach()
    return Diagnostics(
        facts[..., Fact.ITERATIONS].to(torch.int64),
        facts[..., Fact.ROW_ERROR],
        facts[..., Fact.CONVERGED] == 0,
        facts[..., Fact.MASS],
        potentials,
    )
