"""Whose validation images may say the temperature of an evaluation's probabilities: those of the model's training.

A temperature belongs to a model. One that was trained on some classes or one data set and is tested on others keeps its
own: fitted anew, it would have seen labels of images that the test is to do without. A file of a release does not say
what it was trained on, and so gets none.
"""

from pathlib import Path
from typing import Any

from foundation.keys.of_all_runs import of
from foundation.probabilities import Temperature
from runs.same_run import about_model
from trainers.learned_folder import SETTINGS


def settle_temperature(trainer: Any, model_dir: str, load_epoch: int | None) -> None:
    """Give a trainer that evaluates the temperature of its model, or say whether it fits one."""
    cfg = trainer.cfg
    subset = of(cfg, "DATASET.SUBSAMPLE_CLASSES")
    model = about_model(model_dir) or about_model(model_dir and Path(model_dir) / SETTINGS)
    known = model["temperature"] if model and load_epoch is None else None
    loaded = model_dir or cfg.MODEL.INIT_WEIGHTS
    if model is not None:
        trainer.fits_temperature = _are_of(model, cfg.DATASET.NAME, subset)
    elif loaded:
        trainer.fits_temperature = False
        if of(cfg, "TEST.TEMPERATURE"):
            print(
                "No temperature is fitted (TEST.TEMPERATURE): nothing says on which classes the model of "
                f"{loaded} was trained"
            )
    else:  # nothing is learned
        trainer.fits_temperature = subset != "new"
    if known and of(cfg, "TEST.TEMPERATURE"):
        trainer.model_temperature = Temperature(known["value"], known["images"], "model")


def _are_of(model: dict[str, Any], dataset: str, subset: str) -> bool:
    return (model["dataset"], model["subset"] or "all") == (dataset, subset)
