"""Division of all (image, class) pairs into chunks whose scores fit into a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator

ALIGNED = 8  # rows of the score matrix begin at multiples of so many numbers, as the matrix library wants it


def chunks(B: int, C: int, image_tokens: int, text_tokens: int, cells: int) -> Iterator[tuple[slice, slice]]:
    """Images and classes of each chunk, in a fixed order.

    A chunk has at most ``cells`` scores, unless one image and one class have more. It is as near to a square as the
    numbers of tokens of an image and of a class allow: that is where products move the fewest bytes.
    """
    rows = max(math.isqrt(cells), cells // (B * image_tokens))
    classes = max(1, min(C, rows // text_tokens))
    images = max(1, min(B, cells // (classes * text_tokens * image_tokens)))
    for b in range(0, B, images):
        for c in range(0, C, classes):
            yield slice(b, min(B, b + images)), slice(c, min(C, c + classes))


def stride_of(image_tokens: int) -> int:
    """Numbers from one row of a chunk's scores to the next."""
    return -(-image_tokens // ALIGNED) * ALIGNED
