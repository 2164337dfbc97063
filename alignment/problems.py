"""All problems of a call, checked and with everything filled in: what the solvers take."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from alignment.rule import Rule


@dataclass(frozen=True)
class Problems:
    """Features, or costs, and masses.

    Attributes:
        image, text: features (B, M, P, d) and (C, N, L, d) of one dtype; or None.
        cost: (B, C, M, N, P, L) instead; or None.
        image_mass, text_mass: marginals (B, M, P) and (C, N, L), zero at padding, in the dtype of the computation.
        class_lengths: (C,) text tokens of the longest prompt of each class, or None when all are L.
        rule: how the iteration goes and ends.
        normalize: scale the features to unit norm, in their dtype.
        memory: bytes that may be taken beside inputs (and these scaled), result and gradients.
        start: (B, C, M, N, L) potentials of the text tokens to start from, or None.
    """

    image: Tensor | None
    text: Tensor | None
    cost: Tensor | None
    image_mass: Tensor
    text_mass: Tensor
    class_lengths: Tensor | None
    rule: Rule
    normalize: bool
    memory: int
    start: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Those that gradients may reach."""
        return self.image, self.text, self.cost, self.image_mass, self.text_mass

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """(B, C, M, N, P, L)"""
        (B, M, P), (C, N, L) = self.image_mass.shape, self.text_mass.shape
        return B, C, M, N, P, L
