"""Files, names, seeds and the environment."""

import difflib
import hashlib
import json
import os
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from foundation.atomic import atomic_write

from .images import read_image as read_image  # plugins import it from here, too

__all__ = [
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "download_url",
    "get_file_md5",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_json",
    "set_random_seed",
    "tolist_if_not",
    "write_json",
]


def mkdir_if_missing(dirname: str | os.PathLike) -> None:
    """Create a folder and its parents.

    Raises:
        OSError: it cannot be created.
    """
    try:
        os.makedirs(dirname or ".", exist_ok=True)
    except OSError as error:
        raise type(error)(f'Cannot create the folder "{dirname}" ({error.strerror})') from None


def check_isfile(fpath: str | os.PathLike) -> bool:
    """Whether there is such a file; warns where there is none."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def read_json(fpath: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON.
    """
    with open(fpath, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f'"{fpath}" is not valid JSON: {error}') from None


def write_json(obj: Any, fpath: str | os.PathLike) -> None:
    """Write a JSON file and the folders it needs; other processes see it whole or not at all."""
    mkdir_if_missing(os.path.dirname(fpath))
    with atomic_write(os.fspath(fpath)) as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def listdir_nohidden(path: str | os.PathLike, sort: bool = False) -> list[str]:
    """Names in a folder that do not begin with a dot."""
    items = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(items) if sort else items


def get_file_md5(fpath: str | os.PathLike) -> str:
    """MD5 of a file, in hex."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(fpath, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download_url(url: str, dst: str | os.PathLike) -> None:
    """Download ``url`` (Google Drive's too) to the file ``dst``.

    Raises:
        OSError: the file cannot be fetched.
    """
    import gdown  # only needed here

    print(f'* url="{url}"')
    print(f'* destination="{dst}"')
    mkdir_if_missing(os.path.dirname(dst))
    try:
        fetched = gdown.download(url, os.fspath(dst), quiet=False)
    except Exception as error:  # gdown's and requests' own errors, of many kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OSError(f'Cannot download {url} ({reason}); fetch it by hand and put it at "{dst}"') from error
    if fetched is None:
        raise OSError(f'Cannot download {url}; fetch it by hand and put it at "{dst}"')


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the global state is what transforms and samplers draw from)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def collect_env_info() -> str:
    """Versions and hardware, in many lines."""
    import PIL
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def get_most_similar_str_to_a_from_b(a: str, b: Sequence[str]) -> str | None:
    """The string of ``b`` that is most like ``a``; None where ``b`` is empty."""
    return max(b, key=lambda name: difflib.SequenceMatcher(None, a, name).ratio(), default=None)


def check_availability(requested: str, available: Sequence[str]) -> None:
    """Raise a ValueError that names what exists when ``requested`` is not in ``available``."""
    if requested not in available:
        nearest = get_most_similar_str_to_a_from_b(requested, available)
        raise ValueError(
            f"The requested one is expected to belong to {list(available)}, but got [{requested}] "
            f"(do you mean [{nearest}]?)"
        )


def tolist_if_not(x: Any) -> list:
    """``x`` itself if it is a list, otherwise a list of it."""
    return x if isinstance(x, list) else [x]
