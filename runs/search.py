"""`search.json`: what a run has to do with a search for settings, told by who starts it, and kept in its record.

Of a run that was tried: {"candidate": {KEY: value}}. Of one that tests what was chosen: {"on": "val", "chosen": {KEY:
value}, "tried": [{"settings": {KEY: value}, "seed", "accuracy" in percent, of the validation images}]}.
"""

import json
from pathlib import Path
from typing import Any

from foundation.atomic import atomic_write
from foundation.errors import WrongInput

FILE_NAME = "search.json"


def is_search(value: Any) -> bool:
    """Whether `value` is what a record has as `search`."""
    if not isinstance(value, dict):
        return False
    if "candidate" in value:
        return _are_settings(value["candidate"])
    tried = value.get("tried")
    return (
        _are_settings(value.get("chosen"))
        and isinstance(tried, list)
        and all(
            isinstance(one, dict)
            and _are_settings(one.get("settings"))
            and isinstance(one.get("seed"), int)
            and isinstance(one.get("accuracy"), (int, float))
            for one in tried
        )
    )


def _are_settings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def note(text: str, folder: Path) -> None:
    """Write the JSON `text` into the folder of a run that begins."""
    with atomic_write(folder / FILE_NAME) as file:
        file.write(text)


def read(folder: Path) -> dict[str, Any]:
    """The entry `search` of the record of the run in `folder`; empty where nothing was searched for.

    ValueError where the file is another's.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WrongInput(f"{path} is not what tools/launch.py has written: remove it") from error
    return {"search": noted}


def forget(folder: Path) -> None:
    """The record has it."""
    (folder / FILE_NAME).unlink(missing_ok=True)
