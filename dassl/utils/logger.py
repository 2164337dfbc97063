"""The log file of a run."""

import os
import sys
import time
from typing import Any, TextIO

from .tools import mkdir_if_missing

__all__ = ["Logger", "setup_logger"]


class Logger:
    """A text stream that writes to the console and to a file.

    It is the console in all other respects (isatty, encoding, fileno). Lines reach the file as they are
    printed, so a killed run keeps its log; text that begins with a carriage return, as progress bars write
    it, is left out.
    """

    def __init__(self, fpath: str | os.PathLike | None = None):
        # A second run in this process gets a log of its own, not a share in the first one's.
        self.console: TextIO = sys.stdout.console if isinstance(sys.stdout, Logger) else sys.stdout
        self.file: TextIO | None = None
        if fpath is not None:
            mkdir_if_missing(os.path.dirname(fpath))
            self.file = open(fpath, "w", buffering=1, encoding="utf-8")  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        if name == "console":  # not set yet, or gone already
            raise AttributeError(name)
        return getattr(self.console, name)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def write(self, msg: str) -> int:
        if self.file is not None and not msg.startswith("\r"):
            self.file.write(msg)
        return self.console.write(msg)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        """Close the file; the console stays open, it is not ours."""
        if self.file is not None:
            self.file.close()
            self.file = None


def setup_logger(output: str | os.PathLike | None = None) -> None:
    """From here on, write what is printed to ``<output>/log.txt`` too.

    Args:
        output: a folder, or a file name that ends in .txt or .log; None: no log. An existing file is kept,
            and the new one's name gets the time.
    """
    if output is None:
        return
    fpath = os.fspath(output)
    if not fpath.endswith((".txt", ".log")):
        fpath = os.path.join(fpath, "log.txt")
    if os.path.exists(fpath):
        fpath += time.strftime("-%Y-%m-%d-%H-%M-%S")
    logger = Logger(fpath)
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
    sys.stdout = logger
