"""Files and folders that appear whole or not at all, also when several runs make them at the same moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4


def write_atomically(path: str, text: str) -> None:
    """Write ``text`` (UTF-8) under a temporary name and rename it to ``path``, making its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _temporary_name(path)
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


@contextmanager
def build_once(folder: str) -> Iterator[str]:
    """Yield a temporary folder to fill, which becomes ``folder`` when the block ends without an error.

    When several processes build the same folder, the first to end wins and the others drop theirs; so what
    is built must be the same in all of them (a function of fixed seeds, not of a random state).
    """
    folder = os.path.abspath(folder)
    temporary = _temporary_name(folder)
    os.makedirs(temporary)
    try:
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_name(path: str) -> str:
    # uuid4 asks the system and leaves the state of `random` alone, on which a run's results depend.
    return f"{path}.tmp-{uuid4().hex}"
