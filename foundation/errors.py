"""Errors that the user can mend, told from bugs.

`UserError` says it outright. Most of the code raises plain ValueError, OSError and their like on purpose; such
an error is the user's if a `raise` statement of ours made it. The same type out of a call (`int("old2")`) is a bug.
"""

import dis
import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

FOREIGN_FOLDERS = {"site-packages", "dist-packages", ".venv"}
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
RAISED_ON_PURPOSE = (ValueError, OSError, FloatingPointError, MemoryError)


class UserError(Exception):
    """The user can mend it; the message is one line that names the thing, the value and what would work."""


class WrongInput(UserError, ValueError):
    """A value, or two that do not fit each other."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that is not there."""


class FolderInUse(UserError, OSError):
    """Another process works there."""


class WorkerReport(NamedTuple):
    """What torch tells of an error in a DataLoader worker: where it was raised, by which statement, its message."""

    file: str
    statement: str
    message: str


def is_the_users(error: BaseException, roots: Sequence[Path]) -> bool:
    """Whether the user can mend `error`, which came out of the code in the folders `roots` or of what that calls."""
    if isinstance(error, UserError):
        return True
    if not isinstance(error, RAISED_ON_PURPOSE):
        return False
    report = worker_report(error)
    if report is not None:
        file, on_purpose = report.file, report.statement.startswith("raise ")
    else:
        end = _end(error, skip_standard_library=isinstance(error, OSError))
        if end is None:
            return False
        code = end.tb_frame.f_code
        file, on_purpose = code.co_filename, dis.opname[code.co_code[end.tb_lasti]] == "RAISE_VARARGS"
    # What the system refuses (a full disk, a file that is gone) comes out of a call, and is no bug.
    return is_ours(file, roots) and (on_purpose or isinstance(error, OSError))


def _end(error: BaseException, skip_standard_library: bool) -> TracebackType | None:
    """Where `error` was raised; or where our code, or another library, called what raised it."""
    end, found = error.__traceback__, None
    while end is not None:
        file = end.tb_frame.f_code.co_filename
        if found is None or not (skip_standard_library and _is_standard(file)):
            found = end
        end = end.tb_next
    return found


def _is_standard(file: str) -> bool:
    if file.startswith("<frozen"):
        return True
    path = Path(file)
    return path.is_relative_to(STANDARD_LIBRARY) and not FOREIGN_FOLDERS.intersection(path.parts)


def is_ours(file: str, roots: Sequence[Path]) -> bool:
    """Whether a file of code lies in one of `roots`, and not in a library below them."""
    path = Path(file).resolve()
    return any(
        path.is_relative_to(root) and not FOREIGN_FOLDERS.intersection(path.relative_to(root).parts)
        for root in roots
    )


def worker_report(error: BaseException) -> WorkerReport | None:
    """Of an error that a DataLoader worker raised; None for any other.

    torch raises an error of the same type whose message is the worker's whole traceback.
    """
    text = str(error)
    if not re.match(r"Caught \w+ in DataLoader worker", text):
        return None
    frames = re.findall(r'^\s*File "(.+?)", line \d+.*\n\s*(.*)', text, flags=re.MULTILINE)
    if not frames:
        return None
    behind = re.split(r'^\s*File ".+?", line \d+.*$', text, flags=re.MULTILINE)[-1]
    raised = re.search(r"^[\w.]+: (.*)", behind, flags=re.MULTILINE | re.DOTALL)
    file, statement = frames[-1]
    return WorkerReport(file, statement, raised.group(1).strip() if raised else text)
