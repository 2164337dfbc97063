"""`run.json`: which training run an output folder holds while it is not finished. Whoever continues it asks here.

It is written before the first epoch and removed when the record is written. From an engine's own file one could tell
as much, but the original Dassl (DASSL_PATH) has none that does.
"""

import json
from pathlib import Path
from typing import Any

from foundation import identity
from foundation.atomic import atomic_write
from foundation.errors import WrongInput
from runs.record import FILE_NAME as RECORD
from runs.record import read_record
from runs.same_run import plain_config

FILE_NAME = "run.json"
ANEW = "TRAIN.OVERWRITE True"


def note(trainer: Any, folder: Path) -> None:
    """Say that `folder` holds the run that `trainer` does."""
    noted = {
        "config": plain_config(trainer.cfg),
        "inputs": identity.inputs(trainer),
        "scores_batches": identity.scores_batches(trainer),
    }
    with atomic_write(folder / FILE_NAME) as file:
        json.dump(noted, file, indent=1)


def forget(folder: Path) -> None:
    """It is finished."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """What `note` has written, None where there is nothing; ValueError where the file is another's."""
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(noted["config"], dict) or not isinstance(noted["inputs"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise WrongInput(f"{path} does not say which run this is: remove it, or the folder") from error
    return noted


def other_settings(folder: Path, config: dict[str, Any]) -> list[str]:
    """Where `config` asks for another run than the unfinished one in `folder`, as `KEY: noted -> asked`."""
    noted = read(folder)
    if noted is None:
        return []
    return identity.differences(noted["config"], config, of_a_batch=noted.get("scores_batches", False))


def check_settings(folder: Path, config: dict[str, Any]) -> None:
    """ValueError where the unfinished run in `folder` is another than `config` asks for."""
    identity.refuse(folder, "settings", other_settings(folder, config), ANEW)


def check_inputs(folder: Path, trainer: Any) -> None:
    """ValueError where it was built from other weights, images or class names than `trainer`."""
    noted = read(folder)
    if noted is not None:
        found = identity.differing_inputs(noted["inputs"], identity.inputs(trainer))
        identity.refuse(folder, "weights or data", found, ANEW)


def settings_in(folder: Path) -> dict[str, Any] | None:
    """The config of the run in `folder`, unfinished or finished; None where nothing there says it."""
    noted = read(folder)
    if noted is None and (folder / RECORD).is_file():
        noted = read_record(folder)
    return None if noted is None else noted["config"]


def other_method(folder: Path, config: dict[str, Any]) -> list[str]:
    """Where `config` would test the model of the run in `folder` with other settings of its method than it has."""
    settings = settings_in(folder) if folder.is_dir() else None
    if (
        settings is None or settings["TRAINER"]["NAME"] != config["TRAINER"]["NAME"]
    ):  # a checkpoint says so itself
        return []
    return identity.differences({"TRAINER": settings["TRAINER"]}, {"TRAINER": config["TRAINER"]})
