"""The record of what a trainer has just done."""

import math
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from foundation import identity
from foundation.keys.of_all_runs import of

if TYPE_CHECKING:
    from foundation.probabilities import Calibration, Probabilities
from runs.machine import hardware, peak_memory, versions
from runs.record import SCHEMA
from runs.same_run import about_model, plain_config


def make_record(
    trainer: Any,
    *,
    kind: str,
    started: datetime,
    built: datetime,
    finished: datetime,
    model_dir: str = "",
    load_epoch: int | None = None,
) -> dict[str, Any]:
    """The record of what `trainer`, a Dassl trainer, has just done; its form is at the top of this file."""
    cfg = trainer.cfg
    dataset = trainer.dm.dataset
    return {
        "schema": SCHEMA,
        "kind": kind,
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        "model_dir": model_dir,
        "load_epoch": load_epoch,
        "model": about_model(model_dir),
        "config": plain_config(cfg),
        "classnames": list(dataset.classnames),
        "inputs": identity.inputs(trainer),
        "scores_batches": identity.scores_batches(trainer),
        "metrics": _metrics(trainer),
        "trainable_parameters": trainable_parameters(trainer),
        "learns": trains(trainer),
        "disclosures": list(trainer.disclosed()) if hasattr(trainer, "disclosed") else [],
        "time": {
            "started": started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "setup_seconds": (built - started).total_seconds(),
            "run_seconds": (finished - built).total_seconds(),
            "step_seconds": getattr(trainer, "step_seconds", None),  # the original Dassl does not measure it
        },
        "peak_memory": peak_memory(trainer),
        "backbone_hash": getattr(trainer, "backbone_hash", None),
        "few_shot_hash": getattr(dataset, "few_shot_hash", None),
        "versions": versions(),
        "hardware": hardware(),
    }


def trains(trainer: Any) -> bool:
    """Whether training images decide how it scores; the methods here say so, others by having parameters."""
    return bool(getattr(trainer, "learns", trainable_parameters(trainer)))


def trainable_parameters(trainer: Any) -> int:
    """How many numbers are learned, in the models that the trainer registered."""
    models = [trainer._models[name] for name in trainer.get_model_names()]
    learned = {p for model in models for p in model.parameters() if p.requires_grad}
    return sum(p.numel() for p in learned)


def _metrics(trainer: Any) -> dict[str, Any] | None:
    from sklearn.metrics import accuracy_score, f1_score

    # Dassl's evaluator keeps the labels of its last test; other evaluators may keep none.
    true = getattr(trainer.evaluator, "_y_true", [])
    predicted = getattr(trainer.evaluator, "_y_pred", [])
    if not true:
        return None
    labels = sorted(set(true))
    accuracy = 100.0 * accuracy_score(true, predicted)
    per_class = []
    for label in labels:
        of_class = [p for t, p in zip(true, predicted) if t == label]
        per_class.append(
            {
                "class": trainer.dm.lab2cname[label],
                "accuracy": 100.0 * of_class.count(label) / len(of_class),
                "images": len(of_class),
            }
        )
    return {
        "accuracy": accuracy,
        "error_rate": 100.0 - accuracy,
        "macro_f1": 100.0 * f1_score(true, predicted, labels=labels, average="macro"),
        "macro_accuracy": sum(row["accuracy"] for row in per_class) / len(per_class),
        **getattr(trainer.evaluator, "top_accuracy", {}),
        "images": len(true),
        "per_class": per_class,
        "halves": _halves(trainer, true, predicted),
        **_of_probabilities(trainer, len(true)),
    }


def _halves(trainer: Any, true: list[int], predicted: list[int]) -> dict[str, float] | None:
    """Accuracy on the images of the base and of the new classes, where both were tested."""
    from datasets.base_new import halves

    if of(trainer.cfg, "DATASET.SUBSAMPLE_CLASSES") != "all":
        return None
    base = set(halves(trainer.dm.lab2cname)[0])
    rights: dict[str, list[bool]] = {"base": [], "new": []}
    for label, prediction in zip(true, predicted):
        rights["base" if label in base else "new"].append(label == prediction)
    if not all(rights.values()):
        return None
    return {half: 100.0 * sum(of_half) / len(of_half) for half, of_half in rights.items()}


def _of_probabilities(trainer: Any, images: int) -> dict[str, Any]:
    # Here, for with it comes torch, which a report does not need.
    from foundation.probabilities import COSINES, FITTED, told_apart

    found: Probabilities | None = getattr(trainer, "probabilities", None)
    if found is None or len(found) != images:  # of another evaluator, which does not show them
        return {"probabilities": None, "temperature": None, "other_images": None}
    fitted = getattr(trainer, "temperature", None)
    others: Probabilities | None = getattr(trainer, "other_probabilities", None)
    about: dict[str, Any] = {
        "probabilities": _figures(found.calibration()),
        "temperature": None,
        "other_images": None,
    }
    if fitted is not None and FITTED in found.temperatures:
        about["temperature"] = {**fitted._asdict(), **_figures(found.calibration(FITTED))}
    if others is not None and len(others):
        auroc, fpr95 = told_apart(found.confidences(COSINES), others.confidences(COSINES))
        folder = os.path.abspath(of(trainer.cfg, "TEST.OOD"))
        about["other_images"] = {"folder": folder, "images": len(others), "auroc": auroc, "fpr95": fpr95}
    return about


def _figures(found: "Calibration") -> dict[str, Any]:
    names = ("images", "accuracy", "confidence")
    return {
        "ece": found.ece,
        "nll": found.nll if math.isfinite(found.nll) else None,
        "brier": found.brier,
        "reliability": [dict(zip(names, of_bin)) for of_bin in found.reliability],
    }
