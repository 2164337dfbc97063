"""What a method may change in a tower: the one vocabulary, as data that the tower reads.

    Tokens     n tokens in front of one block: inserted, or in place of those that stand there, wholly or in part
    LowRank    an addition to a weight
    a tensor   in place of a weight
    Changes    all that a method changes in one tower

No method edits a tower; a tower whose changes are empty computes what CLIP does.

Weights are named as in CLIP's papers, those of block i (counted from 0) ``blocks.{i}.`` and

    q, k, v, o    .weight (w, w), .bias (w,)            attention
    qkv           .weight (3 w, w), .bias (3 w,)        the first three at once
    fc, proj      .weight (4 w, w) and (w, 4 w), .bias  the MLP
    ln_1, ln_2    .weight, .bias (w,)                   in front of attention and MLP

and besides ``ln_pre``, ``ln_post`` of an image tower and ``ln_final`` of a text tower, .weight and .bias, and of both
``projection`` (w, d), which the output is multiplied with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .lookup import looked_up
from .sending import send


class Tokens(NamedTuple):
    """n tokens that enter a tower in front of one of its blocks.

    Attributes:
        block: which, counted from 0.
        values: of a text tower (R, n, w), for each root its own; or (C, R, n, w), for each class, too. Of an image
            tower (M, n, w), for each copy of an image its own.
        insert: nothing stands there yet, the sequence grows.
        kept: share of what stands there that stays, 1 - beta; 0: it is replaced.
        offset: they stand behind so many tokens: of a text, from the one behind the start token on; of an image, of
            those that were added to its patches.
    """

    block: int
    values: Tensor
    insert: bool = False
    kept: float = 0.0
    offset: int = 0


def is_by_class(tokens: Tokens) -> bool:
    """Whether each class has tokens of its own."""
    return tokens.values.dim() == 4


def count(tokens: Tokens) -> int:
    """How many enter, n."""
    return tokens.values.shape[-2]


class LowRank(NamedTuple):
    """An addition to a weight W (out, in): W x + scale * up down dropout(x) (LoRA, Hu et al., ICLR 2022).

    Attributes:
        down: (r, in).
        up: (out, r).
        scale: of the addition.
        dropout: probability of dropping a value of the addition's input; to be 0 where nothing is trained.
        cut: no gradient goes through the addition to what enters it.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0
    dropout: float = 0.0
    cut: bool = False

    def product(self) -> Tensor:
        """What is added to the weight (out, in), in fp32."""
        return self.scale * (self.up.float() @ self.down.float())


@dataclass(frozen=True)
class Changes:
    """All that a method changes in one tower.

    Attributes:
        prompts: (M, n, w), of an image tower alone: tokens behind the patches, in front of the first norm. An image is
            computed once for each of the M. (Those of a text stand in its forest.)
        tokens: that enter in front of blocks, in the order in which they do.
        weights: by their names; tensors differentiable, in fp32 or in the weights' dtype.
    """

    prompts: Tensor | None = None
    tokens: tuple[Tokens, ...] = ()
    weights: Mapping[str, Tensor | LowRank] = field(default_factory=dict)

    @property
    def none(self) -> bool:
        """Whether nothing is changed."""
        return self.prompts is None and not self.tokens and not self.weights

    @property
    def random(self) -> bool:
        """Whether random numbers are drawn in a pass."""
        return any(isinstance(change, LowRank) and change.dropout > 0 for change in self.weights.values())

    @property
    def split(self) -> Tokens | None:
        """Those that differ by class, if there are any."""
        return next((tokens for tokens in self.tokens if is_by_class(tokens)), None)

    def select(self, classes: Sequence[int]) -> "Changes":
        """The changes for these classes alone, in this order."""
        if self.split is None:
            return self
        index = _index(tuple(classes), self.split.values.device)
        tokens = (
            each._replace(values=each.values.index_select(0, index)) if is_by_class(each) else each
            for each in self.tokens
        )
        return replace(self, tokens=tuple(tokens))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Changes":
        """The same changes with a function of each of their tensors, ``Tensor.detach``."""
        return Changes(
            None if self.prompts is None else function(self.prompts),
            tuple(each._replace(values=function(each.values)) for each in self.tokens),
            {
                name: change._replace(down=function(change.down), up=function(change.up))
                if isinstance(change, LowRank)
                else function(change)
                for name, change in self.weights.items()
            },
        )

    def tensors(self) -> list[Tensor]:
        """All that they are made of."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found


NONE = Changes()


def deep_prompts(layers: Sequence[Tensor]) -> tuple[Tokens, ...]:
    """Replacements of the first tokens at the input of blocks 2 .. D (VPT, MaPLe): D - 1 tensors (R or M, n, w)."""
    return tuple(Tokens(block, values) for block, values in enumerate(layers, start=1))


def by_block(tokens: Sequence[Tokens], depth: int, tower: str) -> tuple[tuple[Tokens, ...], ...]:
    """What enters each of a tower's blocks.

    Raises:
        ValueError: there is no such block.
    """
    for each in tokens:
        if not 0 <= each.block < depth:
            raise ValueError(f"tokens enter block {each.block} (from 0), the {tower} has 0 to {depth - 1}")
    return tuple(tuple(each for each in tokens if each.block == block) for block in range(depth))


@looked_up
def _index(classes: tuple[int, ...], device: torch.device) -> Tensor:
    return send(torch.tensor(classes), device)
