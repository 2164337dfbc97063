"""The largest entries of plans, without writing the plans whole."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from alignment import solvers
from alignment.arguments import Arguments


class Matches(NamedTuple):
    """The k pairs of tokens of every problem that share most mass, most first; (B, C, M, N, k) each.

    Where a problem has fewer pairs the others have mass 0 and no meaning.
    """

    mass: Tensor
    image_token: Tensor
    text_token: Tensor


def token_matches(
    image_tokens: Tensor | None = None,
    text_tokens: Tensor | None = None,
    text_lengths: Tensor | None = None,
    *,
    k: int,
    **options: Any,
) -> Matches:
    """The k largest entries of every plan, without gradient.

    Options, memory and errors are those of ``token_plan``, whose (B, C, M, N, P, L) entries are never in memory
    together.

    Examples
    --------
    >>> x, y = torch.eye(6)[None, None], torch.eye(6)[None, None, :4]
    >>> matches = token_matches(x, y, k=4)
    >>> matches.image_token.flatten().sort().values, bool((matches.image_token == matches.text_token).all())
    (tensor([0, 1, 2, 3]), True)
    """
    allow_tf32 = options.pop("allow_tf32", False)
    problems, chosen = Arguments(image_tokens, text_tokens, text_lengths, **options).problems()
    *_, P, L = problems.sizes
    if not 1 <= k <= P * L:
        raise ValueError(f"k is {k}, expected 1 to {P * L} for plans of {P} x {L} tokens")
    if chosen == "dense":
        raise ValueError("token_matches is not mapped or differentiated by torch.func")
    mass, place = solvers.largest(problems, chosen, allow_tf32, k)
    return Matches(mass, place // L, place % L)
