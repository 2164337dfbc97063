"""An index of folders with very many files, kept beside them, which notices changes.

A folder's time of modification changes when a file in it is added, removed or renamed, so only folders with
another time than the index has are listed again.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

from datasets.files import is_litter, write_atomically


def index_folders(image_dir: str, path: str) -> dict[str, list[str]]:
    """The files in each folder of ``image_dir``, by the folder's name, all sorted and without hidden ones.

    Args:
        image_dir: the folder whose folders are listed.
        path: where the index is kept (JSON); a broken one is made again.
    """
    with os.scandir(image_dir) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not is_litter(entry.name))
    old = _read(path)

    def list_one(folder: str) -> tuple[int, list[str]]:
        place = os.path.join(image_dir, folder)
        changed = os.stat(place).st_mtime_ns
        if folder in old and old[folder][0] == changed:
            return old[folder]
        with os.scandir(place) as entries:
            return changed, sorted(entry.name for entry in entries if not is_litter(entry.name))

    with ThreadPoolExecutor(16) as pool:  # on a network disk, listing is waiting
        index = dict(zip(folders, pool.map(list_one, folders), strict=True))
    if index != old:
        try:
            write_atomically(path, json.dumps(index))
        except OSError as error:  # a read-only data root; the next run lists the folders again
            print(f"Index of {image_dir} not kept ({error})")
    return {folder: files for folder, (_, files) in index.items()}


def _read(path: str) -> dict[str, tuple[int, list[str]]]:
    try:
        with open(path, encoding="utf-8") as file:
            return {
                str(folder): (int(changed), list(files))
                for folder, (changed, files) in json.load(file).items()
            }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
