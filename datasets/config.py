"""The config keys that Dassl does not have and data sets read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dassl.data.datasets import DATASET_REGISTRY

if TYPE_CHECKING:
    from yacs.config import CfgNode


def extend_cfg(cfg: CfgNode) -> None:
    """Declare CoOp's ``DATASET.SUBSAMPLE_CLASSES`` and the keys of each data set that has an ``extend_cfg``."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    for name in DATASET_REGISTRY.registered_names():
        declare = getattr(DATASET_REGISTRY.get(name), "extend_cfg", None)
        if declare is not None:
            declare(cfg)
