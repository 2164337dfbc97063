"""Files and folders that appear whole or not at all, also when several runs make them at the same moment."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from foundation.atomic import atomic_write

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(OSError):
    """The disk, or the user's share of it, is full."""


@contextmanager
def named_disk_errors(path: str | os.PathLike) -> Iterator[None]:
    """Say of an error of the disk what was being written: a library's own says that there is no space, but not where.

    Raises:
        DiskFull: there is no space left.
        OSError: another error, with its number.
    """
    try:
        yield
    except OSError as error:
        full = disk_full(error, path)
        if full:
            raise full from None
        if error.errno is None or isinstance(error, DiskFull):
            raise  # it has said all
        raise OSError(error.errno, error.strerror, error.filename or os.fspath(path)) from None


def disk_full(error: BaseException | None, path: str | os.PathLike) -> DiskFull | None:
    """The error that says so, where ``error``, met in writing ``path``, or what led to it is that the disk is full."""
    while error is not None:
        if isinstance(error, DiskFull):
            return error
        if isinstance(error, OSError) and error.errno in _FULL:
            return DiskFull(f"{os.fspath(path)}: the disk is full{_free(path)}; make room and run this again")
        error = error.__cause__ or error.__context__
    return None


def _free(path: str | os.PathLike) -> str:
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    with suppress(OSError):
        return f", {shutil.disk_usage(folder).free / 1e6:,.0f} MB are free"
    return ""


def write_atomically(path: str, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all, making its folder."""
    with named_disk_errors(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic_write(path) as file:
            file.write(text)


@contextmanager
def build_once(folder: str) -> Iterator[str]:
    """Yield a temporary folder to fill, which becomes ``folder`` when the block ends without an error.

    When several processes build the same folder, the first to end wins and the others drop theirs; so what
    is built must be the same in all of them (a function of fixed seeds, not of a random state).
    """
    folder = os.path.abspath(folder)
    temporary = _temporary_name(folder)
    try:
        with named_disk_errors(folder):
            os.makedirs(temporary)
            yield temporary
            try:
                os.rename(temporary, folder)
            except OSError:
                if not os.path.isdir(folder):
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def md5_of(path: str | os.PathLike) -> str:
    """The file's md5 (hex)."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_litter(name: str) -> bool:
    """Whether a file or folder of that name is nobody's data: hidden, or left by a file manager or a file system."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini")


def _temporary_name(path: str) -> str:
    # uuid4 asks the system and leaves the state of `random` alone, on which a run's results depend.
    return f"{path}.tmp-{uuid4().hex}"
