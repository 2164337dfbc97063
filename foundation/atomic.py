"""Files that are either whole or not there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SUFFIX = ".tmp"


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing; it appears, complete and on disk, when the block ends without an error.

    The bytes go to a hidden file of a unique name in the same folder, so several processes may write the same
    path: the last one wins. A kill leaves at most that hidden file (``.*.tmp``).

    Raises:
        OSError: it cannot be written (a full disk, a folder that is gone); names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{SUFFIX}")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch.save raises a RuntimeError of its own over the system's error.
        reason = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(reason, OSError) and reason.filename in (None, str(temporary)):
            raise OSError(reason.errno, reason.strerror, str(path)) from error
        raise
