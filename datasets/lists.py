"""The text files that archives come with: lists of images and of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from foundation.text import read_text

Value = TypeVar("Value")


def read_lines(path: str) -> list[str]:
    """The lines of a text file without the white space around them, and without empty ones."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def look_up(table: Mapping[str, Value], name: str, source: str) -> Value:
    """``table[name]``; a ValueError says that ``source`` has no such name."""
    if name not in table:
        raise ValueError(f"{source} has no {name!r}")
    return table[name]
