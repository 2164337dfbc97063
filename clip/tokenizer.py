"""Text to token ids with CLIP's byte-pair vocabulary (49,408 entries), as open_clip ships it."""

from functools import lru_cache

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

SOS, EOT = 49406, 49407
CONTEXT_LENGTH = 77


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def encode(text: str) -> list[int]:
    """Token ids of ``text`` alone: no start, no end, no padding. Words never merge across a space."""
    return _tokenizer().encode(text)


def decode(ids: list[int]) -> list[str]:
    """The text of each token alone, without the mark of a word's end; bytes that are no text become a mark."""
    tokenizer = _tokenizer()
    return [tokenizer.decode([token]).removesuffix(" ") for token in ids]


def tokenize(texts: str | list[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
    """Rows ``[SOS, tokens, EOT, 0, 0, ...]`` as CLIP's own ``tokenize`` makes them.

    Returns:
        LongTensor (len(texts), context_length).

    Raises:
        ValueError: a text has more tokens than the context holds; it is named, never cut silently.
    """
    texts = [texts] if isinstance(texts, str) else texts
    rows = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        ids = [SOS, *encode(text), EOT]
        check_length(len(ids), context_length, text)
        row[: len(ids)] = torch.tensor(ids)
    return rows


def check_length(length: int, context_length: int, text: str) -> None:
    """Refuse a text that the tower's positions cannot hold, by name."""
    if length > context_length:
        raise ValueError(
            f"the prompt of {text!r} takes {length} tokens, the text tower holds {context_length}: "
            "shorten the class name or use fewer context tokens"
        )
