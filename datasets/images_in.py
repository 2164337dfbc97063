"""The images of any folder, whatever is in them."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from datasets.files import is_litter


def images_in(folder: str) -> list[str]:
    """The paths of all files below ``folder`` whose names end as those of images do."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder}")
    # Some formats (PDF) Pillow only writes.
    endings = tuple(ending for ending, form in Image.registered_extensions().items() if form in Image.OPEN)
    files = (path for path in sorted(Path(folder).rglob("*")) if path.name.lower().endswith(endings))
    paths = [
        str(path)
        for path in files
        if path.is_file() and not any(map(is_litter, path.relative_to(folder).parts))
    ]
    if not paths:
        raise ValueError(f"there are no images in {folder}")
    return paths
