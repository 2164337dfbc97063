"""Decode images as runs do, to know that they can be."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

from PIL import Image
from tqdm import tqdm

from dassl.utils import read_image
from foundation.pool import process_pool


def examine_all(
    paths: Sequence[str], workers: int, text: str, **options: Any
) -> Iterator[tuple[str, str, str]]:
    """Decode images in several processes; yields (path, mode, reason) as `examine` does, in order."""
    pool = process_pool(workers)
    try:
        results = pool.map(partial(examine, **options), paths, chunksize=32)
        yield from tqdm(results, total=len(paths), desc=text, unit="image", mininterval=0.5)
    finally:
        pool.shutdown(cancel_futures=True)


def examine(path: str, **options: Any) -> tuple[str, str, str]:
    """The path, the image's mode in PIL, and why a run cannot read it with those options, or "" when it can."""
    try:
        read_image(path, **options)
        with Image.open(path) as image:
            return path, image.mode, ""
    except Exception as error:  # of the disk, too
        reason = " ".join(str(error).split()) or type(error).__name__
        return path, "", reason.removeprefix(f'Cannot read the image "{path}" (').removesuffix(")")


def same_files(paths: Iterable[str]) -> list[list[str]]:
    """The files that have the same bytes as another one, together; only those of one size are read."""
    by_size, by_content = defaultdict(list), defaultdict(list)
    for path in paths:
        by_size[os.stat(path).st_size].append(path)
    for some in by_size.values():
        for path in some if len(some) > 1 else ():
            with open(path, "rb") as file:
                by_content[blake2b(file.read(), digest_size=16).digest()].append(path)
    return [same for same in by_content.values() if len(same) > 1]
