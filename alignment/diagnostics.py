"""How the iterations of a call went."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from alignment.facts import Fact


class Diagnostics(NamedTuple):
    """Of all problems, where the features are; nobody has waited for them."""

    iterations: Tensor  #: (B, C, M, N) int64
    #: (B, C, M, N) sum |T 1 - u|, mass that the image tokens lack or have too much; for relaxed ones, what the next
    #: iteration would change
    row_error: Tensor
    at_ceiling: Tensor  #: (B, C, M, N) bool: the rule would have gone on behind ``max_iter``
    mass: Tensor  #: (B, C, M, N) of the plan; 1 unless ``reach`` is finite
    #: (B, C, M, N, L) eps log c of the text tokens, -inf at padding: what another call takes as ``start``
    potentials: Tensor


def diagnostics_of(facts: Tensor, potentials: Tensor) -> Diagnostics:
    facts = facts.detach()
    return Diagnostics(
        facts[..., Fact.ITERATIONS].to(torch.int64),
        facts[..., Fact.ROW_ERROR],
        facts[..., Fact.CONVERGED] == 0,
        facts[..., Fact.MASS],
        potentials,
    )
