"""Which trainers, configs and data sets there are: the files under configs/, read without loading the methods."""

from functools import cache
from typing import Any

import yaml

from runs import ROOT
from runs.settings import nearest

CONFIGS = ROOT / "configs"
#: The data sets that the field compares on, and those that ImageNet's models are also tested on.
ELEVEN = (
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
VARIANTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


def trainers() -> list[str]:
    """Names of the methods that have configs."""
    return sorted(path.name for path in (CONFIGS / "trainers").iterdir() if any(path.glob("*.yaml")))


def configs(trainer: str) -> list[str]:
    """Names of a method's configs."""
    return sorted(path.stem for path in (CONFIGS / "trainers" / trainer).glob("*.yaml"))


def datasets() -> list[str]:
    """Names of the data sets, as in their configs' file names."""
    return sorted(path.stem for path in (CONFIGS / "datasets").glob("*.yaml"))


def check_trainer(name: str) -> None:
    """ValueError for a method that has no configs, with those that have."""
    if name not in trainers():
        raise ValueError(f"trainer {name!r} is unknown, choose from: {', '.join(trainers())}")


def check_config(trainer: str, name: str) -> None:
    """ValueError for a method or a config that does not exist, with those that do."""
    check_trainer(trainer)
    if name not in configs(trainer):
        raise ValueError(f"{trainer} has no config {name!r}, choose from: {', '.join(configs(trainer))}")


def check_dataset(name: str) -> None:
    """ValueError for a data set that has no config, with the nearest and all that have."""
    if name not in datasets():
        raise ValueError(
            f"data set {name!r} is unknown, the nearest is {nearest(name, datasets())}; "
            f"choose from: {', '.join(datasets())}"
        )


@cache
def settings(trainer: str, config: str) -> dict[str, Any]:
    """What a method's config file sets, as nested dictionaries."""
    check_config(trainer, config)
    return yaml.safe_load((CONFIGS / "trainers" / trainer / f"{config}.yaml").read_text("utf-8")) or {}


def learns(trainer: str, config: str) -> bool:
    """Whether a method has anything to train; its configs say so by having an optimiser."""
    return "OPTIM" in settings(trainer, config)


@cache
def registered_name(dataset: str) -> str:
    """The name that a data set's records carry: "OxfordPets" for "oxford_pets"."""
    check_dataset(dataset)
    return yaml.safe_load((CONFIGS / "datasets" / f"{dataset}.yaml").read_text("utf-8"))["DATASET"]["NAME"]
