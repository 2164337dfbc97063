"""A run's output folder: may it be written, is there a run in it, what becomes of that when another takes its place."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from foundation import identity
from foundation.errors import WrongInput
from runs import class_texts, unfinished
from runs.lock import only_one
from runs.record import FILE_NAME, read_record
from runs.same_run import about_model, other_run

REPLACED = ".replaced"
REPLACED_RECORD = "replaced.json"
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
def working_in(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it for the body, as its only process; where that fails and nothing is in it, remove it.

    OSError where it cannot be written, its disk is full, or another process works there.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        check_room(folder)
        with only_one(folder):
            settle(folder)
            yield
    except BaseException:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


@contextlib.contextmanager
def log_as_before(folder: Path) -> Iterator[None]:
    """When the body fails, remove what it has logged: a wrong input leaves no trace."""
    logs = {log: log.stat().st_size for log in folder.glob("log.txt*")}
    try:
        yield
    except BaseException:
        for log in folder.glob("log.txt*"):
            if log in logs:
                os.truncate(log, logs[log])
            else:
                log.unlink()
        raise


def finished_run(folder: Path, config: dict[str, Any], kind: str, **arguments: Any) -> dict[str, Any] | None:
    """The record in `folder` of the run that `config` and `arguments` ask for, None where there is none yet.

    ValueError where the folder holds a finished run of other settings.
    """
    if not (folder / FILE_NAME).exists():
        return None
    record = read_record(folder)
    found = other_run(record, config, kind, **arguments, model=about_model(arguments.get("model_dir", "")))
    if found:
        raise WrongInput(
            f"{folder} holds a finished run with other settings ({identity.listed(found)}): "
            f"another --output-dir{', or TRAIN.OVERWRITE True' if record['kind'] == kind else ''}"
        )
    return record


def check_evaluation(folder: Path, model_dir: str) -> None:
    """ValueError where the record of an evaluation would take the place of a training run's."""
    there = (folder / FILE_NAME).exists() and read_record(folder)["kind"] == "train"
    if not there and not (folder / unfinished.FILE_NAME).exists():
        return
    what = "the run whose model is tested" if identity.same_path(str(folder), model_dir) else "a training run"
    raise WrongInput(
        f"--output-dir {folder} holds {what}, and the evaluation's record would take its record's place: "
        f"another --output-dir is needed, for example {folder}_eval"
    )


def is_overwritten(folder: Path) -> bool:
    """Whether a run of before is kept in `folder` until the one that replaces it is finished."""
    return (folder / REPLACED).is_dir() and not (folder / FILE_NAME).exists()


def set_aside(folder: Path, kind: str, new: Collection[Path] = ()) -> None:
    """Move what an earlier run has left in `folder`, if anything, to `.replaced`: record, logs, curves, checkpoints.

    Of an unfinished run that was itself to replace another one, nothing is kept; that other one is. An evaluation
    (`kind` "eval") has no checkpoints.

    Args:
        new: files that are not the earlier run's.
    """
    patterns = ["log.txt*", "cmat.pt", class_texts.FILE_NAME]
    if kind == "train":
        patterns += [
            unfinished.FILE_NAME,
            "resume.pth.tar",
            "tensorboard",
            "*/checkpoint",
            "*/model*.pth.tar*",
        ]
    kept = not is_overwritten(folder)
    # The record last: as long as it is there, `settle` brings back what has been moved.
    for path in [
        path for pattern in [*patterns, FILE_NAME] for path in folder.glob(pattern) if path not in new
    ]:
        if kept:
            name = path.relative_to(folder)
            # Under another name no report takes it for a result.
            target = folder / REPLACED / (REPLACED_RECORD if name == Path(FILE_NAME) else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if kept:
        (folder / REPLACED).mkdir(exist_ok=True)
        (folder / REPLACED / REPLACED_RECORD).touch()  # also where there was none: this is all of it
    logs = sorted(path for path in new if path.name.startswith("log.txt") and path.exists())
    if logs and not (folder / "log.txt").exists():
        os.replace(logs[0], folder / "log.txt")


def settle(folder: Path) -> None:
    """Where a replacement was cut off at its very beginning or its very end: undo it, or end it."""
    replaced = folder / REPLACED
    if not (replaced.is_dir() and (folder / FILE_NAME).exists()):
        return
    if not (replaced / REPLACED_RECORD).exists():
        for path in sorted(replaced.rglob("*")):
            target = folder / path.relative_to(replaced)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    shutil.rmtree(replaced)


def can_continue(folder: Path) -> bool:
    """Whether an unfinished run in `folder` has kept something to continue from."""
    return (folder / "resume.pth.tar").exists() or any(folder.glob("*/checkpoint"))
