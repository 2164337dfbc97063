"""An output folder whose files appear together, when all of them are there."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check(folder: Path, force: bool) -> None:
    """FileExistsError where there is something at `folder` already, unless it is a folder and `force` is set."""
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file, a folder is needed")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise FileExistsError(
            f"{folder} exists and is not empty: another --output, or --force to replace its files"
        )


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill; its files get to `folder` when the block ends without an error.

    Files of other names that lie there stay.
    """
    temporary = folder.absolute().with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            target = folder / path.relative_to(temporary)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
