"""The data sets by the names that a person types: those of the config files, or the registered ones."""

from __future__ import annotations

from typing import Any

import datasets.config
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.base import SplitDataset
from datasets.split import Item, Split
from runs import shipped
from runs.settings import merge_file, merge_pairs
from runs.shipped import CONFIGS, check_dataset, registered_name


def data_sets() -> dict[str, type[SplitDataset]]:
    """The class of each data set that has a config file, by the file's name."""
    return {name: DATASET_REGISTRY.get(registered_name(name)) for name in shipped.datasets()}


def config_name(name: str) -> str:
    """The config file's name of the data set that `name` means, "EuroSAT" too; ValueError where there is none."""
    known = {registered_name(config).lower(): config for config in shipped.datasets()}
    config = known.get(name.lower(), name)
    check_dataset(config)
    return config


def load(name: str, root: str, *settings: Any) -> SplitDataset:
    """Load a data set, with `settings` as KEY, VALUE, KEY, VALUE ...; all of its images unless they say otherwise."""
    cfg = get_cfg_default()
    datasets.config.extend_cfg(cfg)
    merge_file(cfg, str(CONFIGS / "datasets" / f"{config_name(name)}.yaml"))
    merge_pairs(cfg, ["DATASET.ROOT", root, "VERBOSE", False, *settings])
    return build_dataset(cfg)


def split_of(data: SplitDataset) -> Split:
    """The images of a loaded data set, by their paths below the image folder."""
    start = len(data.image_dir.rstrip("/")) + 1
    parts = (
        [Item(datum.impath[start:], datum.label, datum.classname) for datum in part or []]
        for part in (data.train_x if data.few_shot_hash else [], data.val, data.test)
    )
    return Split(*parts)
