"""`class_texts.json`: the texts of the classes that a run was built with, so that it can be used without their file."""

import json
from pathlib import Path
from typing import Any

from foundation import identity, written_texts
from foundation.atomic import atomic_write
from foundation.errors import MissingFile, WrongInput
from foundation.written_texts import CLASS_TEXTS

FILE_NAME = written_texts.KEPT


def keep(texts: dict[str, list[str]], folder: Path) -> None:
    """Write the texts that a trainer has used, if any, into a run's folder."""
    if texts:
        with atomic_write(folder / FILE_NAME) as file:
            json.dump(texts, file, indent=1, ensure_ascii=False)


def kept(record: dict[str, Any], folder: Path) -> str:
    """The file of the texts of a finished run: what it has kept, or else the one that it was given; "" without texts.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: the texts are not those of the run.
    """
    given = record["config"].get("DATASET", {}).get("CLASS_TEXTS") or ""
    known = record.get("inputs", {}).get(identity.CLASS_TEXTS)
    if not given or not known:
        return ""
    path = next((path for path in (folder / FILE_NAME, Path(given)) if path.is_file()), None)
    if path is None:
        raise MissingFile(
            f"{folder} was run with {CLASS_TEXTS} {given}: it is not there, nor is {folder / FILE_NAME}"
        )
    texts = written_texts.class_texts({"DATASET": {"CLASS_TEXTS": str(path)}})
    if written_texts.content_hash(texts) != known:
        raise WrongInput(f"{path} has other texts than {folder} was run with: those of the run are needed")
    return str(path)
