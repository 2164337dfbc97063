"""Types of arguments for argparse: numbers within a range, and paths in which `~` is the home folder."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path


def at_least(least: float, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """A number of that kind, `least` or more."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r}: {what}, {least:g} or more, is needed")
        return value

    return number


def expanded(text: str) -> Path:
    """A file or folder; a shell leaves the `~` of `--root=~/data` to us."""
    return Path(text).expanduser()


def expanded_text(text: str) -> str:
    """The same for those who take text."""
    return os.path.expanduser(text)
