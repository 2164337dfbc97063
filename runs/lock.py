"""Only one process works in an output folder, and a second one is told which.

The lock is one of the operating system (fcntl), which goes with its process however that ends; on a network file system
it holds between machines where that file system passes locks on, as NFS does. Where it has no locks at all, a process
of this machine is found by its number, and of another machine's nothing is known but what its file says.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from foundation.errors import FolderInUse

FILE_NAME = ".in_use"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold `folder` for the body; its file is removed at the end.

    Raises:
        FolderInUse: another process has it; with its host, number and since when.
    """
    path = folder / FILE_NAME
    file = _open(path, folder)
    try:
        own = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        }
        file.seek(0)
        file.truncate()
        json.dump(own, file)
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _open(path: Path, folder: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            # Unlike flock's, it is not handed on to the data loader's workers, which may outlive a killed process.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            with file:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise FolderInUse(_said(folder, _holder(file))) from None
                _ask_without_locks(folder, _holder(file))
            return path.open("a+", encoding="utf-8")
        # Whoever held it before may have removed the file that is locked now.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()


def _holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except ValueError:  # it is being written
        holder = {}
    return holder if isinstance(holder, dict) else {}


def _said(folder: Path, holder: dict[str, object]) -> str:
    who = "process {process} on {host} since {since}".format(
        **{"process": "?", "host": "?", "since": "?", **holder}
    )
    return f"{folder} is in use by {who if holder else 'another process'}: wait for its end, or choose another folder"


def _ask_without_locks(folder: Path, holder: dict[str, object]) -> None:
    if not holder:
        return
    if holder.get("host") != socket.gethostname():
        print(
            f"Warning: {_said(folder, holder)}. Whether it still works cannot be seen: the file system has no locks"
        )
    elif _is_alive(holder.get("process")):
        raise FolderInUse(_said(folder, holder))


def _is_alive(process: object) -> bool:
    if not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
