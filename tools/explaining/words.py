"""Learned context tokens beside the vocabulary: the nearest entries, and how near random vectors come to theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clip import decode
from trainers.prompt_model import PromptModel

DRAWS = 100  #: random vectors for each token
CHUNK = 64  #: vectors whose distances to all entries are computed at once


@dataclass(frozen=True)
class Neighbours:
    """Of one context token.

    Attributes:
        prompt: which prompt or class the token is of; "" where there is one context.
        token: its name, "v1" for the first.
        norm: its length.
        entries: the nearest entries of the vocabulary with their Euclidean distances, the nearest first.
        random: distances of DRAWS random vectors of the same norm to the nearest entry of each: the smallest, the mean.
        as_near: share of these that lie at most as far from their nearest entry as the token does from its.
    """

    prompt: str
    token: str
    norm: float
    entries: list[tuple[str, float]]
    random: tuple[float, float]
    as_near: float


@torch.no_grad()
def nearest_words(model: PromptModel, classnames: list[str], k: int = 3, seed: int = 0) -> list[Neighbours]:
    """Neighbours of every shallow context token; those of deeper layers replace outputs, not words.

    Args:
        model: with a text context.
        classnames: name the contexts where each class has its own.
        k: how many entries.
        seed: of the random vectors.

    Raises:
        ValueError: the method learns no context tokens.
    """
    context = getattr(model, "context", None)
    if context is None:
        trainer = model.about.get("trainer", type(model).__name__)
        raise ValueError(f"{trainer} learns no context tokens of the text tower, --words has nothing to show")
    vocabulary = model.clip.text.token_embedding.weight.float().cpu()
    squares = vocabulary.square().sum(1)
    contexts = context.ctx.detach().float().cpu()
    names = [""]
    if contexts.dim() == 3:
        names = classnames if context.class_specific else [str(i + 1) for i in range(len(contexts))]
    else:
        contexts = contexts[None]
    # Not from torch's generator: models whose tables it has filled (the bundled one) would hold its first numbers.
    generator = np.random.default_rng(seed)
    found = []
    for name, vectors in zip(names, contexts, strict=True):
        for place, vector in enumerate(vectors):
            found.append(_neighbours(name, f"v{place + 1}", vector, vocabulary, squares, k, generator))
    return found


def _to_nearest(vectors: Tensor, vocabulary: Tensor, squares: Tensor) -> Tensor:
    """Their distances to the nearest entries, of which ``squares`` has the squared norms: one root for each vector.

    Rounding makes of a distance of 0 one of a thousandth of the norm, which no random vector has.
    """
    least = torch.addmm(squares, vectors, vocabulary.T, alpha=-2).amin(1)
    return (least + vectors.square().sum(1)).clamp(min=0).sqrt()


def _neighbours(
    prompt: str,
    token: str,
    vector: Tensor,
    vocabulary: Tensor,
    squares: Tensor,
    k: int,
    generator: np.random.Generator,
) -> Neighbours:
    norm = vector.norm()
    random = torch.from_numpy(generator.standard_normal((DRAWS, len(vector)), dtype=np.float32))
    random = random * (norm / random.norm(dim=1, keepdim=True))
    distances = (vocabulary - vector).norm(dim=1)
    nearest = distances.topk(k, largest=False)
    of_random = torch.cat([_to_nearest(part, vocabulary, squares) for part in random.split(CHUNK)])
    words = decode(nearest.indices.tolist())
    return Neighbours(
        prompt,
        token,
        float(norm),
        list(zip(words, nearest.values.tolist())),
        (float(of_random.min()), float(of_random.mean())),
        float((of_random <= nearest.values[0]).float().mean()),
    )


def as_text(found: list[Neighbours]) -> Iterator[str]:
    """Lines of a table, and what it means."""
    head = ["prompt", "token", "norm", "nearest entries (distance)", "random: least", "mean", "as near"]
    rows = [
        [
            one.prompt,
            one.token,
            f"{one.norm:.3f}",
            ", ".join(f"{word!r} ({distance:.3f})" for word, distance in one.entries),
            f"{one.random[0]:.3f}",
            f"{one.random[1]:.3f}",
            f"{one.as_near:.0%}",
        ]
        for one in found
    ]
    if not any(one.prompt for one in found):
        head, rows = head[1:], [row[1:] for row in rows]
    left = head.index("nearest entries (distance)")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [
            f"{cell:<{w}}" if i <= left else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths))
        ]
        yield "  ".join(cells).rstrip()
    yield ""
    yield (
        f"random: distances of {DRAWS} random vectors of the token's norm to their nearest entries; as near: the share "
        "of them that come as near as the token. Where that is not close to 0 %, the entries say nothing of the token."
    )
