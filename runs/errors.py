"""How every program here ends: what the user can mend is one line on stderr, never a traceback."""

import argparse
import contextlib
import os
import re
import select
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from runs import DASSL, ROOT

# What the code raises on purpose; anything else is a bug and keeps its traceback.
DELIBERATE = (ValueError, OSError, FloatingPointError, MemoryError)
FOREIGN_FOLDERS = {"site-packages", "dist-packages", ".venv"}


class OneLineParser(argparse.ArgumentParser):
    """argparse whose errors are one line as well: the usage is a `--help` away."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


@contextlib.contextmanager
def clean_errors() -> Iterator[None]:
    """Context manager and decorator around a program's main function.

    A ValueError, OSError, FloatingPointError or MemoryError raised in this checkout (or in the one that DASSL_PATH
    names), in the main process or in a DataLoader worker, becomes `error: <message>` on stderr and exit
    code 2; Ctrl-C one line and exit code 130; a reader that closes our stdout early (`| head`) a silent
    end. MMPROMPT_TRACEBACK=1 shows tracebacks.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        _end(interrupt, f"interrupted: {interrupt}" if interrupt.args else "interrupted", 130)
    except BrokenPipeError as error:
        if not _stdout_is_closed():
            _end(error, f"error: {one_line(error)}", 2)
        # The interpreter flushes stdout once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
        sys.exit(141)
    except DELIBERATE as error:
        if not is_deliberate(error):
            raise
        _end(error, f"error: {one_line(error)}", 2)


def one_line(error: BaseException) -> str:
    """The message of `error` on one line; of an error from a DataLoader worker, the original message."""
    message = _worker_message(str(error))
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    return " ".join(message.splitlines()) or type(error).__name__


def is_deliberate(error: BaseException) -> bool:
    """Whether `error` was raised in this checkout or the original Dassl's, not inside a library."""
    in_worker = re.findall(r'^\s*File "(.+?)", line \d+', str(error), flags=re.MULTILINE)
    if _from_worker(str(error)) and in_worker:
        return _is_ours(in_worker[-1])
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_ours(frames[-1].filename)


def _end(error: BaseException, line: str, code: int) -> NoReturn:
    if os.environ.get("MMPROMPT_TRACEBACK"):
        traceback.print_exception(error)
    # A progress bar leaves the cursor in its line.
    print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr)
    sys.exit(code)


def _is_ours(filename: str) -> bool:
    roots = [ROOT, DASSL] if DASSL else [ROOT]
    path = Path(filename).resolve()
    return any(
        path.is_relative_to(root) and not FOREIGN_FOLDERS.intersection(path.relative_to(root).parts)
        for root in roots
    )


def _from_worker(message: str) -> bool:
    # torch re-raises a worker's error as the same type with its whole traceback as the message.
    return message.startswith("Caught ") and "Original Traceback" in message


def _worker_message(message: str) -> str:
    if not _from_worker(message):
        return message
    after_last_frame = re.split(r'^\s*File ".+?", line \d+.*$', message, flags=re.MULTILINE)[-1]
    raised = re.search(r"^[\w.]+: (.*)", after_last_frame, flags=re.MULTILINE | re.DOTALL)
    return raised.group(1).strip() if raised else message


def _stdout_is_closed() -> bool:
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), 0)  # type: ignore[union-attr]
    return any(event & select.POLLERR for _, event in poll.poll(0))
