"""Names for the data sets of own images, which are all called alike: those of their folders."""

import os
from pathlib import Path
from typing import Any

from foundation.identity import OWN_IMAGES
from tools.launching.state import setting
from tools.reporting.result import Result


def name_own_images(results: list[Result]) -> None:
    """Tell folders of own images apart by their names, with as much of their paths as that needs."""
    own = [result for result in results if OWN_IMAGES in (result.dataset, result.source)]
    roots = {tuple(Path(_root(result.record)).parts) for result in own}
    roots |= {tuple(Path(_root(result.training)).parts) for result in own}

    def name(record: dict[str, Any]) -> str:
        parts = Path(_root(record)).parts
        for n in range(1, len(parts) + 1):
            if all(_one_ends_the_other(root, parts) for root in roots if root[-n:] == parts[-n:]):
                break
        return f"{OWN_IMAGES} ({'/'.join(parts[-n:])})" if parts else OWN_IMAGES

    for result in own:
        if result.dataset == OWN_IMAGES:
            result.dataset = name(result.record)
        if result.source == OWN_IMAGES:
            result.source = name(result.training)


def _root(record: dict[str, Any]) -> str:
    root = setting(record["config"], "DATASET.ROOT") or ""
    file = setting(record["config"], "DATASET.IMAGE_FOLDER.CSV") or ""
    return os.path.normpath(os.path.join(root, file)) if root or file else ""


def _one_ends_the_other(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """A relative path and an absolute one may be the same folder."""
    shorter = min(len(a), len(b))
    return a[-shorter:] == b[-shorter:]
