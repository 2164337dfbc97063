"""A text prompt in its two parts: the beginning that all classes share, and each class's own tokens.

Attention in CLIP's text tower is causal, so the activations of the beginning (start token, context, frozen template
words) are the same for every class, and positions behind a class's end of text never matter. A batch of prompts is
therefore a small forest: R roots, and under every root C branches, one for each class::

    [SOS v1 v2 of a] --+-- [river . EOT]
                       +-- [annual crop land . EOT]

The roots' and branches' tokens are computed once each; padding is not computed at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .lookup import looked_up
from .sending import send
from .tokenizer import CONTEXT_LENGTH, EOT, SOS, check_length, encode


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a forest stand. All lengths are in tokens.

    Attributes:
        roots: length of each of the R roots; shorter ones are padded to the longest, K.
        branches: length of each of the C branches, the same under every root; T is their sum.
        ends: position of the end-of-text token in each branch.
        tokens: number of output tokens of each class that are asked for, counted from the start token on;
            empty when only summaries are.
    """

    roots: tuple[int, ...]
    branches: tuple[int, ...]
    ends: tuple[int, ...]
    tokens: tuple[int, ...] = ()

    @property
    def longest_root(self) -> int:
        return max(self.roots)

    def select(self, classes: Sequence[int]) -> "Layout":
        """The layout of these classes alone, in this order."""
        branches, ends, tokens = (
            tuple(part[c] for c in classes) if part else ()
            for part in (self.branches, self.ends, self.tokens)
        )
        return Layout(self.roots, branches, ends, tokens)

    def grown(self, n: int) -> "Layout":
        """The layout when n tokens more stand in every root; output tokens are counted with them."""
        return replace(
            self, roots=tuple(k + n for k in self.roots), tokens=tuple(count + n for count in self.tokens)
        )

    def split(self, start: int) -> "Layout":
        """The layout when each class has what stands in its roots from ``start`` on for itself: in its branch.

        Raises:
            ValueError: the roots are not of the same length.
        """
        if len(set(self.roots)) > 1:
            raise ValueError(
                f"tokens that differ by class need roots of the same length, these have {self.roots}"
            )
        rest = self.longest_root - start
        return Layout(
            (start,) * len(self.roots),
            tuple(rest + n for n in self.branches),
            tuple(rest + end for end in self.ends),
            self.tokens,
        )

    @property
    def starts(self) -> np.ndarray:
        """(C,) position of each branch's first token among the T."""
        lengths = np.array(self.branches)
        return lengths.cumsum() - lengths

    def positions(self, context_length: int = CONTEXT_LENGTH) -> np.ndarray:
        """(R, K + T) position of every token in its text, the index into the positional embedding.

        Behind the end of text, a token that a shorter root's texts need may lie outside of a longer root's; these do
        not use it.
        """
        inside = np.concatenate([np.arange(n) for n in self.branches])
        behind = inside > np.repeat(self.ends, self.branches)
        limit = np.where(behind, context_length - 1, 2 * context_length)  # a text too long stays an error
        root = np.arange(self.longest_root)
        return np.stack([np.concatenate([root, np.minimum(length + inside, limit)]) for length in self.roots])

    def read_out(self) -> np.ndarray:
        """(R, C, L) index among the K + T of each class's first ``tokens`` outputs; behind them the last again."""
        count = np.array(self.tokens)[:, None]
        steps = np.minimum(np.arange(max(self.tokens)), count - 1)  # (C, L)
        rows = []
        for length in self.roots:
            branch = self.longest_root + self.starts[:, None] + (steps - length)
            rows.append(np.where(steps < length, steps, branch))
        return np.stack(rows)


@looked_up
def selection(layout: Layout, classes: tuple[int, ...], device: torch.device) -> tuple[Layout, Tensor]:
    """The layout of these classes, and which of the branches' tokens are theirs."""
    selected = layout.select(classes)
    shift = layout.starts[list(classes)] - selected.starts
    index = np.arange(sum(selected.branches)) + np.repeat(shift, selected.branches)
    return selected, send(torch.from_numpy(index), device)


@dataclass(frozen=True)
class TextPrompts:
    """Token embeddings of a forest, without positions.

    Attributes:
        root: (R, K, w).
        branch: (T, w), shared by all roots, or (R, T, w).
        layout: where they stand.
    """

    root: Tensor
    branch: Tensor
    layout: Layout

    def select(self, classes: Sequence[int]) -> "TextPrompts":
        """The forest with the branches of these classes alone, in this order; gradients reach the whole one."""
        layout, tokens = selection(self.layout, tuple(classes), self.branch.device)
        return TextPrompts(self.root, self.branch.index_select(-2, tokens), layout)

    def beside(self, other: "TextPrompts") -> "TextPrompts":
        """One forest with the roots of both, of one length, over the branches that both have."""
        layout = replace(self.layout, roots=self.layout.roots + other.layout.roots)
        return TextPrompts(torch.cat([self.root, other.root]), self.branch, layout)


def split_texts(texts: list[str], context_length: int = CONTEXT_LENGTH) -> tuple[list[int], list[list[int]]]:
    """Token ids of plain texts as one root, their longest common beginning, and a branch each, with the end of text.

    Raises:
        ValueError: a text is longer than the context; it is named.
    """
    rows = [[SOS, *encode(text), EOT] for text in texts]
    for row, text in zip(rows, texts, strict=True):
        check_length(len(row), context_length, text)
    shortest = min(map(len, rows)) - 1  # every branch keeps its end of text
    shared = 0
    while shared < shortest and all(row[shared] == rows[0][shared] for row in rows):
        shared += 1
    return rows[0][:shared], [row[shared:] for row in rows]
