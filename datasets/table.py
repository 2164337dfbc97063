"""A table of images, one a line: a CSV file with the columns ``path``, ``class`` and maybe ``split``."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Mapping

from datasets.split import check_path
from foundation.text import read_text

COLUMNS = (["class", "path"], ["class", "path", "split"])


def read_table(
    source: str, encoding: str, image_dir: str, parts: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    """The (path, class) of the images of each part, in the order of the lines; the part is "" without a ``split``.

    Fields are separated by commas, or as the heading has them by semicolons or tabs. White space around them does not
    count, nor do capital letters in the heading. Paths are written with ``/`` and without ``.`` steps; a backslash is
    a separator unless a file is called so.

    Args:
        source: the file.
        encoding: see `foundation.text.read_text`.
        image_dir: the folder that paths are relative to.
        parts: the parts by the names that the ``split`` column may call them, in small letters.

    Raises:
        ValueError: a line, by its number, does not say what is needed, or names an image again.
    """
    text = read_text(source, encoding)
    heading = text.lstrip().partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in heading), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    lines: dict[str, int] = {}
    columns: list[str] = []
    try:
        for row in rows:
            fields = [field.strip() for field in row]
            while fields and not fields[-1]:  # programs write all columns that a table ever had
                fields.pop()
            if not fields:
                continue
            if not columns:
                columns = [name.lower() for name in fields]
                if sorted(columns) not in COLUMNS:
                    raise ValueError(
                        f"{source} must have the columns path, class and maybe split, not {', '.join(fields)}"
                    )
                continue
            where = f"{source}, line {rows.line_num}"
            named = dict(zip(columns, fields))
            part = named.get("split", "").lower()
            if len(fields) != len(columns) or not all(fields) or ("split" in named and part not in parts):
                raise ValueError(
                    f"{where}: expected {', '.join(columns)}, where split is train, val or test, found"
                    f" {', '.join(fields)}"
                )
            path = _path(named["path"], image_dir, where)
            if path in lines:
                raise ValueError(f"{where}: {path} is in line {lines[path]} already")
            lines[path] = rows.line_num
            found[parts.get(part, "")].append((path, named["class"]))
    except csv.Error as error:
        raise ValueError(f"{source}, line {rows.line_num}: {error}") from None
    if not columns:
        raise ValueError(f"{source} must have the columns path, class and maybe split, not none")
    if not found:
        raise ValueError(f"{source} names no images")
    return found


def _path(text: str, image_dir: str, where: str) -> str:
    if "\\" in text and not os.path.lexists(os.path.join(image_dir, text)):
        text = text.replace("\\", "/")
    if text[1:2] == ":":  # of a disk of Windows
        raise ValueError(f"{where}: {text!r} must be a path below the image folder")
    check_path(text, where)
    return os.path.normpath(text)
