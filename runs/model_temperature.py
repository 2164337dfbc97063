"""Whose validation images may say the temperature of an evaluation's probabilities: those of the model's training.

A temperature belongs to a model. One that was trained on some classes or one data set and is tested on others keeps its
own: fitted anew, it would have seen labels of images that the test is to do without.
"""

from typing import Any

from foundation.keys.of_all_runs import of
from foundation.probabilities import Temperature
from runs.same_run import about_model


def settle_temperature(trainer: Any, model_dir: str, load_epoch: int | None) -> None:
    """Give a trainer that evaluates the temperature of its model, or say whether it fits one."""
    cfg = trainer.cfg
    subset = of(cfg, "DATASET.SUBSAMPLE_CLASSES")
    model = about_model(model_dir)
    known = model["temperature"] if model and load_epoch is None else None
    trainer.fits_temperature = subset != "new" if model is None else _are_of(model, cfg.DATASET.NAME, subset)
    if known and of(cfg, "TEST.TEMPERATURE"):
        trainer.model_temperature = Temperature(known["value"], known["images"], "model")


def _are_of(model: dict[str, Any], dataset: str, subset: str) -> bool:
    return (model["dataset"], model["subset"] or "all") == (dataset, subset)
