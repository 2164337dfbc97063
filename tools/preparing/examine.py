"""Decode images, to know that they can be."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence

from PIL import Image
from tqdm import tqdm


def examine_all(paths: Sequence[str], workers: int, text: str) -> Iterator[tuple[str, str, str]]:
    """Decode images in several processes; yields (path, mode, reason) as `examine` does, in order."""
    # Ctrl-C is for the main process, which ends the others.
    with multiprocessing.Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        results = pool.imap(examine, paths, chunksize=32)
        yield from tqdm(results, total=len(paths), desc=text, unit="image", mininterval=0.5)


def examine(path: str) -> tuple[str, str, str]:
    """The path, the image's mode in PIL, and why it cannot be read, or "" when it can."""
    try:
        with Image.open(path) as image:
            image.convert("RGB")
            return path, image.mode, ""
    except Exception as error:  # decoders raise nearly anything on broken files
        return path, "", str(error) or type(error).__name__
