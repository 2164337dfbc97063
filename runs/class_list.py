"""Class names as a command's argument."""

import argparse
import os
from pathlib import Path


def class_names(text: str) -> list[str]:
    """The names in a file, one a line, or separated by commas; for argparse.

    Raises:
        argparse.ArgumentTypeError: there is no such file, or it is no text.
    """
    path = Path(text).expanduser()
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise argparse.ArgumentTypeError(f"{text} is no text in UTF-8") from error
        return [line for line in lines if line.strip()]
    if path.suffix in (".txt", ".csv", ".json") or os.sep in text:
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return text.split(",")
