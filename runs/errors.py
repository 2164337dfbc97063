"""How every program here ends: what the user can mend is one line on stderr, never a traceback."""

import argparse
import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from foundation.errors import RAISED_ON_PURPOSE, UserError, is_the_users, worker_report
from runs import DASSL, ROOT

# What may be the user's to mend; anything else is a bug and keeps its traceback.
DELIBERATE = (UserError, *RAISED_ON_PURPOSE)


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, but for the word and the exit code."""


class OneLineParser(argparse.ArgumentParser):
    """argparse whose errors are one line as well: the usage is a `--help` away."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


@contextlib.contextmanager
def clean_errors() -> Iterator[None]:
    """Context manager and decorator around a program's main function.

    What the user can mend (foundation/errors.py says what that is; in the main process or in a DataLoader worker)
    becomes `error: <message>` on stderr and exit code 2; Ctrl-C one line and exit code 130, SIGTERM 143 where
    `terminate_as_interrupt` is used; a reader that closes our stdout early (`| head`) a silent end; a bug keeps its
    traceback, and Python's exit code 1. MMPROMPT_TRACEBACK=1 shows tracebacks.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except Terminated as end:
        _end(end, f"terminated: {end}" if end.args else "terminated", 128 + signal.SIGTERM)
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


def terminate_as_interrupt() -> None:
    """From here on SIGTERM raises `Terminated`, so that a run ends as with Ctrl-C; not where it is ignored."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def one_line(error: BaseException) -> str:
    """The message of `error` on one line; of an error from a DataLoader worker, the original message."""
    report = worker_report(error)
    message = report.message if report else str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    return " ".join(message.splitlines()) or type(error).__name__


def is_deliberate(error: BaseException) -> bool:
    """Whether the user can mend `error`, raised in this checkout or the original Dassl's."""
    return is_the_users(error, [ROOT, DASSL] if DASSL else [ROOT])


def _end(error: BaseException, line: str, code: int) -> NoReturn:
    if os.environ.get("MMPROMPT_TRACEBACK"):
        traceback.print_exception(error)
    # A progress bar leaves the cursor in its line.
    print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr)
    sys.exit(code)


def _stdout_is_closed() -> bool:
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), 0)  # type: ignore[union-attr]
    return any(event & select.POLLERR for _, event in poll.poll(0))
