"""What a user writes of the classes in place of a method's own templates, as files hold it.

Class texts are a JSON object ``{"class": ["text", ...]}``; templates, each with ``{}`` for the class name, are a JSON
list, or lines of any other text file.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from .errors import MissingFile, WrongInput
from .keys import value
from .keys.of_all_runs import ALL_RUNS
from .template import check_template, is_template
from .text import read_json, read_text

#: The file that a run and a published folder keep them in.
KEPT = "class_texts.json"
CLASS_TEXTS = "DATASET.CLASS_TEXTS"
TEMPLATES = "DATASET.TEMPLATES"


def class_texts(cfg: Mapping[str, Any]) -> dict[str, list[str]]:
    """Those of ``DATASET.CLASS_TEXTS``, by class as the file has them; none where that names no file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is in another encoding than it says, no JSON, no such object, or it or a class in it has no text.
    """
    path = value(cfg, CLASS_TEXTS, ALL_RUNS)
    if not path:
        return {}
    _check_file(path, CLASS_TEXTS)
    found = read_json(path)
    if not isinstance(found, dict) or not all(_are_texts(texts) for texts in found.values()):
        wrong = found if isinstance(found, dict) else {}
        first = next((f"; {name!r} has none" for name, texts in wrong.items() if not _are_texts(texts)), "")
        raise WrongInput(
            f'{CLASS_TEXTS} {path}: an object with a list of texts for each class, {{"class": ["text", ...]}}, is '
            f"needed{first}"
        )
    if not found:
        raise WrongInput(f"{CLASS_TEXTS} {path}: there are no texts in it")
    names: dict[str, str] = {}
    for name, texts in found.items():
        other = names.setdefault(plain(name), name)
        if other != name:
            raise WrongInput(f"{CLASS_TEXTS} {path}: {other!r} and {name!r} are the same class")
        for text in texts:
            if not _is_unicode(name + text):
                raise WrongInput(f"{CLASS_TEXTS} {path}: of {name!r} the text {text!r} is no Unicode text")
            if not text.strip():
                raise WrongInput(f"{CLASS_TEXTS} {path}: of {name!r} a text is empty")
            if "{}" in text:
                raise WrongInput(
                    f"{CLASS_TEXTS} {path}: of {name!r} the text {text!r} has {{}}; templates belong into {TEMPLATES}"
                )
    return found


def plain(name: str) -> str:
    """A class name without what makes no difference to the tokenizer: underscores, blanks and capital letters."""
    return " ".join(name.replace("_", " ").split()).casefold()


def content_hash(texts: Mapping[str, list[str]]) -> str:
    """Short hash of class texts, however and in whichever order of the classes their file is written."""
    return sha256(json.dumps(texts, sort_keys=True).encode(errors="surrogatepass")).hexdigest()[:16]


def templates(entries: Iterable[Any]) -> tuple[str, ...]:
    """``DATASET.TEMPLATES`` with the templates of a file in the place of its name.

    Args:
        entries: templates, and names of files of templates: what has no brace is one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry, or one of a file's, is no template; a file has none.
    """
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, str) and not {"{", "}"} & set(entry):
            found += _read_templates(str(Path(entry).expanduser()))
        else:
            check_template(str(entry), TEMPLATES)
            found.append(entry)
    return tuple(found)


def _read_templates(path: str) -> list[str]:
    _check_file(path, TEMPLATES)
    if path.lower().endswith(".json"):
        found = read_json(path)
        if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
            raise WrongInput(
                f'{TEMPLATES} {path}: a list of templates is needed, ["a photo of a {{}}.", ...]'
            )
    else:
        found = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not found:
        raise WrongInput(f"{TEMPLATES} {path}: there is no template in it")
    for template in found:
        if not is_template(template):
            raise WrongInput(
                f"{TEMPLATES} {path}: {template!r} must have one {{}} for the class name, and no other brace"
            )
    return found


def _check_file(path: str, key: str) -> None:
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "there is no such file"
        hint = " (a template has {} for the class name)" if key == TEMPLATES else ""
        raise MissingFile(f"{key} {path}: {what}{hint}")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, list) and bool(texts) and all(isinstance(text, str) for text in texts)
