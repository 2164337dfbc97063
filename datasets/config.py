"""The config keys that Dassl does not have and data sets read."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_image
from foundation.keys import declare
from foundation.keys.of_all_runs import ALL_RUNS, of

if TYPE_CHECKING:
    from yacs.config import CfgNode

#: The keys of all runs that data sets read.
OF_DATA_SETS = ("DATASET.SUBSAMPLE_CLASSES", "INPUT.EXIF", "INPUT.WHITE", "DATALOADER.CACHE_MB")


def extend_cfg(cfg: CfgNode) -> None:
    """Declare CoOp's ``DATASET.SUBSAMPLE_CLASSES``, how images are read, and the keys of each data set."""
    declare(cfg, {name: ALL_RUNS[name] for name in OF_DATA_SETS})
    for name in DATASET_REGISTRY.registered_names():
        extend = getattr(DATASET_REGISTRY.get(name), "extend_cfg", None)
        if extend is not None:
            extend(cfg)


def reading_options(cfg: CfgNode) -> dict[str, Any]:
    """The options of ``read_image`` that ``cfg`` sets.

    Raises:
        ValueError: the engine, the original Dassl, would take no notice of them.
    """
    options = {key: of(cfg, f"INPUT.{key.upper()}") for key in ("exif", "white")}
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
