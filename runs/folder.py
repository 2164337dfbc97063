"""A run's output folder: may it be written, is there a finished run in it, what to remove before another."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs.record import FILE_NAME, differing_settings, read_record

LEAST_FREE_BYTES = 100 * 2**20


def check_room(folder: Path) -> None:
    """Make `folder`; OSError where it cannot be written or its disk is full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))  # a full disk takes empty files, and a quota shows in no count
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"output folder {folder} cannot be written: {error.strerror}") from error
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        needed = f"{LEAST_FREE_BYTES / 2**20:.0f} MiB are needed"
        raise OSError(f"output folder {folder}: the disk is full, {free / 2**20:.0f} MiB are free, {needed}")


@contextlib.contextmanager
def started_or_as_before(folder: Path) -> Iterator[None]:
    """Make `folder`; when the body fails, remove the log it began and the folder if it is empty again.

    So a wrong input leaves no trace. OSError where the folder cannot be written or its disk is full.
    """
    logs = set(folder.glob("log.txt*"))
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        check_room(folder)
        yield
    except BaseException:
        for log in set(folder.glob("log.txt*")) - logs:
            log.unlink()
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


def finished_run(folder: Path, config: dict[str, Any], kind: str, **arguments: Any) -> dict[str, Any] | None:
    """The record in `folder` of the run that `config` and `arguments` ask for, None where there is none yet.

    ValueError where the folder holds a finished run of other settings.
    """
    if not (folder / FILE_NAME).exists():
        return None
    record = read_record(folder)
    differences = differing_settings(record, config) + [
        f"{name}: {record.get(name)} -> {value}"
        for name, value in {"kind": kind, **arguments}.items()
        if record.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{folder} holds a finished run with other settings ({'; '.join(differences[:3])}"
            f"{'; ...' if len(differences) > 3 else ''}): another --output-dir, or TRAIN.OVERWRITE True"
        )
    return record


def clear(folder: Path) -> None:
    """Remove what an earlier run has left in `folder`: record, logs, tensorboard files, checkpoints."""
    patterns = (FILE_NAME, "log.txt*", "resume.pth.tar", "cmat.pt", "*/checkpoint", "*/model*.pth.tar*")
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def can_continue(folder: Path) -> bool:
    """Whether an unfinished run in `folder` has kept something to continue from."""
    return (folder / "resume.pth.tar").exists() or any(folder.glob("*/checkpoint"))
