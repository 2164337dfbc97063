"""Few-shot draws that CoOp's code left as pickles, read without executing anything from the file.

Such a file holds ``{"train": [Datum, ...], "val": [Datum, ...]}`` (ImageNet's has no "val"), where a Datum is
an instance of Dassl's class with ``_impath`` (absolute, on the machine that made it), ``_label``, ``_domain``
and ``_classname``.
"""

from __future__ import annotations

import pickle
from typing import Any

from datasets.split import Item, Split


class _Record:
    """Stands for Dassl's Datum while a file is read: it takes attributes and does nothing."""


class _DatumUnpickler(pickle.Unpickler):
    """An unpickler to which the only class in the world is Dassl's Datum."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("dassl.data.datasets.base_dataset", "Datum"):
            return _Record
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_legacy_draw(path: str, split: Split) -> Split:
    """Read a pickled draw and map its absolute paths to those of ``split``; the test part is left empty.

    The image that a path means is the one of the split with the longest tail in common, so the data may have
    moved. A path that is no image of the split is kept, for the caller to count.

    Raises:
        ValueError: when the file is not such a draw, or asks for anything but a Datum.
    """
    try:
        with open(path, "rb") as file:
            content = _DatumUnpickler(file).load()
    except Exception as error:  # a broken pickle may raise nearly anything
        raise ValueError(f"{path} is not a few-shot draw of CoOp's code: {error}") from None
    known = {item.path for part in split for item in part}
    parts = content if isinstance(content, dict) else {}
    try:
        train, val = ([_item(record, known) for record in parts.get(part, [])] for part in ("train", "val"))
    except (AttributeError, TypeError, ValueError):
        train = val = []
    if not train:
        raise ValueError(f"{path} is not a few-shot draw of CoOp's code: it holds no list of training images")
    return Split(train, val, [])


def _item(record: Any, known: set[str]) -> Item:
    if not isinstance(record._impath, str):
        raise TypeError
    steps = record._impath.replace("\\", "/").split("/")
    tails = ("/".join(steps[i:]) for i in range(len(steps)))
    path = next((tail for tail in tails if tail in known), record._impath)
    return Item(path, int(record._label), str(record._classname))
