"""A program's imports: their errors in one line, and no looking for garbage among what stays to the end.

PyTorch and what stands on it make about a million objects. To look through them while they are made, and once more at
the end, took 1.3 of the 4.3 seconds (of a CPU) that a program needs to start and end.
"""

import atexit
import contextlib
import gc
from collections.abc import Iterator

from runs.errors import clean_errors


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Context manager around imports that take seconds."""
    atexit.register(gc.freeze)  # what is frozen is not looked through
    collects = gc.isenabled()
    gc.disable()
    try:
        with clean_errors():
            yield
    finally:
        if collects:
            gc.enable()
