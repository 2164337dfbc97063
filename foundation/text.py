"""Text files as people's programs write them: a byte-order mark is taken everywhere, and nothing is guessed."""

from __future__ import annotations

import codecs
import json
from typing import Any, NoReturn

# Longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str, encoding: str = "") -> str:
    """The text of a file, without a byte-order mark and with its own line ends.

    Args:
        path: the file.
        encoding: of files without a mark; "": UTF-8. A wrong guess would change names, so there is none.

    Raises:
        ValueError: the file is in another encoding (with the line), or there is no such encoding.
    """
    with open(path, "rb") as file:
        content = file.read()
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    try:
        text = content.decode(marked or encoding or "utf-8").removeprefix("\ufeff")
    except LookupError:
        raise ValueError(
            f"{path}: there is no encoding {encoding!r}; utf-8, cp1252 and utf-16 are some"
        ) from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: this is no {error.encoding} text (byte 0x{content[error.start]:02x});"
            " save it as UTF-8, or name its encoding where there is an option"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path} is no {encoding or 'utf-8'} text, it has zero bytes; save it as UTF-8")
    return text


def read_json(path: str) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is none, has a name twice in an object, or numbers that JSON does not have (NaN).
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:  # json would take the last one
            raise ValueError(f"{name!r} is there twice")
        content[name] = value
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
