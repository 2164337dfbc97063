"""Whether a run of a protocol is done: its folder holds the record of a run with the same settings."""

import ast
import json
from pathlib import Path
from typing import Any

from runs import shipped
from runs.record import FILE_NAME, read_record
from tools.launching.protocols import Run


def finished(run: Run, output: Path) -> dict[str, Any] | None:
    """The record of `run` below `output`, None while there is none.

    ValueError where the folder holds a record that cannot be read or is of another run. (train.py compares
    every setting; this compares those of the command line, without loading the methods.)
    """
    folder = output / run.folder
    if not (folder / FILE_NAME).exists():
        return None
    record = read_record(folder)
    asked = {
        "TRAINER.NAME": run.trainer,
        "DATASET.NAME": shipped.registered_name(run.dataset),
        "SEED": run.seed,
        **dict(zip(run.settings[::2], run.settings[1::2])),
    }
    for key, value in asked.items():
        recorded = setting(record["config"], key)
        if not _same(recorded, value):
            raise ValueError(f"{folder} holds a finished run with {key} {recorded}, not {value}")
    return record


def setting(config: dict[str, Any], key: str) -> Any:
    """The value of a key like "OPTIM.LR" in nested dictionaries, None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _same(recorded: Any, asked: Any) -> bool:
    """Whether a setting of the command line, a text as yacs reads it, means the recorded value."""
    if str(recorded) == str(asked):
        return True
    try:
        value = ast.literal_eval(asked)
        return json.loads(json.dumps(value)) == recorded or float(value) == float(recorded)
    except (TypeError, ValueError, SyntaxError):
        return False
