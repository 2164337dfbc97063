"""The config keys that Dassl does not have and data sets read."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_image

if TYPE_CHECKING:
    from yacs.config import CfgNode


def extend_cfg(cfg: CfgNode) -> None:
    """Declare CoOp's ``DATASET.SUBSAMPLE_CLASSES``, how images are read, and the keys of each data set."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.INPUT.EXIF = False  # turn images as their orientation tags say; published numbers ignore them
    cfg.INPUT.WHITE = 0.0  # of grey images with more than 8 bits; 0: 65535 in 16 bits, 1.0 in floating point
    cfg.DATALOADER.CACHE_MB = 0  # for decoded training images; the original Dassl keeps none
    for name in DATASET_REGISTRY.registered_names():
        declare = getattr(DATASET_REGISTRY.get(name), "extend_cfg", None)
        if declare is not None:
            declare(cfg)


def reading_options(cfg: CfgNode) -> dict[str, Any]:
    """The options of ``read_image`` that ``cfg`` sets.

    Raises:
        ValueError: the engine, the original Dassl, would take no notice of them.
    """
    options = {key: cfg.INPUT.get(key.upper(), False) for key in ("exif", "white")}
    options = {key: value for key, value in options.items() if value}
    if not options.keys() <= inspect.signature(read_image).parameters.keys():
        names = " and ".join(f"INPUT.{key.upper()}" for key in options)
        raise ValueError(f"{names}: the original Dassl takes no notice of it")
    return options


def check_options(cfg: CfgNode, dataset: type) -> None:
    """ValueError where a key is set that nobody takes notice of, for instance the template of another data set."""
    reading_options(cfg)
    for name in DATASET_REGISTRY.registered_names():
        other = DATASET_REGISTRY.get(name)
        if not hasattr(other, "extend_cfg") or issubclass(dataset, other):
            continue
        plain = get_cfg_default()
        known = set(plain.DATASET)
        other.extend_cfg(plain)
        for section in set(plain.DATASET) - known:
            given = cfg.DATASET.get(section, {})
            for key, default in plain.DATASET[section].items():
                if given.get(key, default) != default:
                    raise ValueError(
                        f"DATASET.{section}.{key} is a key of {name}, {dataset.__name__} takes no notice of it"
                    )
