"""The data set that a config names."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

__all__ = ["DATASET_REGISTRY", "build_dataset"]

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> Any:
    """An instance of the class that is registered as ``cfg.DATASET.NAME``.

    Raises:
        ValueError: there is none; names those there are.
    """
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
