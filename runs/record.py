"""A run's record, `result.json`: what was run, on what, with what result. One file per output folder.

schema                 version of this format: 4; 3 had of metrics no macro_accuracy, halves, probabilities, temperature
                       and other_images, 2 no inputs, scores_batches and model, 1 no step_seconds either
kind                   "train" or "eval"
trainer, dataset, backbone, seed, shots
model_dir, load_epoch  of an evaluation: the folder of the run whose model it tests, "" and null otherwise
model                  of an evaluation, of the run in model_dir: trainer, dataset, subset, shots, seed, started,
                       temperature (value, images; null where it has none); null where that has left no record
config                 every setting, as nested dictionaries; DATASET.ROOT, which tells folders of one's own images
                       apart, absolute
classnames             C names by label; absent in older records
inputs                 hashes of what the settings only name: weights, images, class names, class texts
                       (foundation/identity.py)
scores_batches         whether results depend on the number of images and classes that are scored at once
metrics                null where nothing was tested, else
    accuracy, error_rate, macro_f1   in percent, as Dassl prints them; with TEST.TOP_K 5 also top5_accuracy
    macro_accuracy                   mean over classes of their recall, in percent
    images                           how many were tested
    per_class                        [{"class", "accuracy" in percent, "images"}], by label: the recall of each class
    halves                           {"base", "new"}: accuracy in percent of the images of the base and of the new
                                     classes, among all classes; null where not all classes were tested
    probabilities                    of the softmax of the logits (docs/probabilities.md); null where they are not known
        ece, nll, brier              in percent, in nats (null: infinite), from 0 to 2
        reliability                  15 times {"images", "accuracy", "confidence"}, by confidence, the latter two in
                                     percent and null where there are no images
    temperature                      null where there is none, else the same of the logits divided by `value`, and
        value, images                the temperature; how many validation images it was fitted on
        source                       "validation" where they are this run's, "model" where it came with the model
    other_images                     of images of other classes (TEST.OOD), told apart by maximum concept matching;
                                     null where there are none
        folder, images               where and how many they are
        auroc, fpr95                 in percent
trainable_parameters   of the models that the trainer registered
learns                 whether training images decide what is tested; absent in older records
disclosures            what a reader of the numbers must know, by name (foundation/disclosures.py); absent in older
                       records
time
    started, finished                ISO 8601, UTC
    setup_seconds, run_seconds       building everything; training with its evaluation, or evaluation
    step_seconds                     median over training steps, without waiting for data and without the
                                     first steps; null where there were no others, or not trained here
peak_memory            bytes; of "cuda": allocated by tensors, "process": resident, libraries included
backbone_hash, few_shot_hash         null where the trainer or the data set has none
versions, hardware     what it ran on
search                 of runs of tools/launch.py --search alone: what was tried and chosen (runs/search.py)
"""

import json
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Collection
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation import identity
from foundation.atomic import atomic_write
from foundation.errors import MissingFile, WrongInput
from foundation.keys.of_all_runs import of
from runs import ROOT
from runs.search import is_search

if TYPE_CHECKING:
    from foundation.probabilities import Calibration, Probabilities

SCHEMA = 4
FILE_NAME = "result.json"
PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scikit-learn")


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
        "peak_memory": _peak_memory(trainer),
        "backbone_hash": getattr(trainer, "backbone_hash", None),
        "few_shot_hash": getattr(dataset, "few_shot_hash", None),
        "versions": _versions(),
        "hardware": _hardware(),
    }


def write_record(record: dict[str, Any], folder: str | Path) -> Path:
    """Write `record` to `folder`/result.json, whole or not at all."""
    path = Path(folder) / FILE_NAME
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")
    return path


def read_record(path: str | Path) -> dict[str, Any]:
    """The record in `path`, a result.json or its folder.

    FileNotFoundError where there is none, ValueError where it is cut off, foreign, of a newer schema, or where a value
    is not what it must be.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    if not path.is_file():
        raise MissingFile(f"no record of a finished run at {path}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WrongInput(f"{path} is cut off or not JSON: {error}") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(schema, int):
        raise WrongInput(f"{path} is not the record of a run: it has no schema version")
    if schema > SCHEMA:
        raise WrongInput(f"{path} has schema {schema}; this version reads up to {SCHEMA}")
    missing = {"kind", "trainer", "dataset", "config", "metrics", "time"} - record.keys()
    if missing:
        raise WrongInput(f"{path} is not the whole record of a run: {', '.join(sorted(missing))} missing")
    for name, value in _values(record).items():
        if not _FORM[name](value):
            raise WrongInput(f"{path} is not the record of a run: {name} is {json.dumps(value)[:_SHOWN]}")
    return record


def _values(record: dict[str, Any]) -> dict[str, Any]:
    """What of a record has a form of its own, by name: `_FORM` says which; older records lack some."""
    found = {name: record[name] for name in _FORM if name in record}
    for part in ("metrics", "time"):
        if isinstance(record[part], dict):
            found |= {f"{part}.{name}": value for name, value in record[part].items()}
            if part == "metrics":
                found.setdefault("metrics.accuracy", None)
    return {name: value for name, value in found.items() if name in _FORM}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _is_percentage(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 100


def _is_per_class(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and _is_text(row.get("class"))
        and _is_percentage(row.get("accuracy"))
        and _is_whole(row.get("images"))
        for row in value
    )


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_at_least_0(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _has(**parts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A dictionary with these entries, and perhaps with others."""
    return lambda value: (
        isinstance(value, dict) and all(holds(value.get(name)) for name, holds in parts.items())
    )


def _is_reliability(value: Any) -> bool:
    share = _or_null(_is_percentage)
    is_bin = _has(images=_is_count, accuracy=share, confidence=share)
    return isinstance(value, list) and all(map(is_bin, value))


_FIGURES = {
    "ece": _is_percentage,
    "nll": _or_null(_is_at_least_0),
    "brier": _is_at_least_0,
    "reliability": _is_reliability,
}

#: What values of a record may be: a file that somebody has edited is not taken for a result.
_FORM: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: value in ("train", "eval"),
    **dict.fromkeys(("trainer", "dataset", "backbone"), _is_text),
    **dict.fromkeys(("seed", "shots", "trainable_parameters"), _is_whole),
    "learns": lambda value: isinstance(value, bool),
    "disclosures": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    **dict.fromkeys(("config", "time"), lambda value: isinstance(value, dict)),
    "metrics": lambda value: value is None or isinstance(value, dict),
    **dict.fromkeys(
        (f"metrics.{name}" for name in ("accuracy", "error_rate", "macro_f1", "macro_accuracy")),
        _is_percentage,
    ),
    "metrics.images": _is_whole,
    "metrics.per_class": _is_per_class,
    "metrics.halves": _or_null(_has(base=_is_percentage, new=_is_percentage)),
    "metrics.probabilities": _or_null(_has(**_FIGURES)),
    "metrics.temperature": _or_null(
        _has(value=_is_at_least_0, images=_is_count, source=_is_text, **_FIGURES)
    ),
    "metrics.other_images": _or_null(
        _has(folder=_is_text, images=_is_count, auroc=_is_percentage, fpr95=_is_percentage)
    ),
    **dict.fromkeys(("time.started", "time.finished"), _is_text),
    **dict.fromkeys(("time.setup_seconds", "time.run_seconds"), _is_number),
    "search": is_search,
    "time.step_seconds": lambda value: value is None or _is_number(value),
}
_SHOWN = 60  # characters of a value in a message


def plain_config(cfg: Any) -> dict[str, Any]:
    """A config as JSON takes it, with the data root as it is known from any folder."""
    config = json.loads(json.dumps(cfg))
    root = config["DATASET"]["ROOT"]
    config["DATASET"]["ROOT"] = os.path.abspath(os.path.expanduser(root)) if root else root
    return config


def about_model(model_dir: str | Path) -> dict[str, Any] | None:
    """What the record in a run's folder says of its model, None where there is none that can be read."""
    try:
        record = read_record(model_dir) if model_dir else None
    except (ValueError, OSError):
        record = None
    if record is None:
        return None
    subset = record["config"].get("DATASET", {}).get("SUBSAMPLE_CLASSES")
    about = {key: record.get(key) for key in ("trainer", "dataset", "shots", "seed")}
    fitted = (record["metrics"] or {}).get("temperature")
    temperature = {key: fitted[key] for key in ("value", "images")} if fitted else None
    return {**about, "subset": subset, "started": record["time"].get("started"), "temperature": temperature}


def other_run(
    record: dict[str, Any],
    config: dict[str, Any],
    kind: str,
    model_dir: str = "",
    load_epoch: int | None = None,
    processes: int = 1,
    model: dict[str, Any] | None = None,
) -> list[str]:
    """Why `record` is not of the run that is asked for, as `what: recorded -> asked`; nothing where it is.

    A setting that only one of them has does not count: a later version of a program declares more keys.

    Args:
        model: `about_model` of the model that is to be tested; that in its folder may be another by now.
    """
    of_a_batch = record.get("scores_batches", False)
    found = differing_settings(record, config, identity.START | identity.COMPUTING, of_a_batch)
    if record["kind"] != kind:
        found.append(f"kind: {record['kind']} -> {kind}")
    if not identity.same_path(record.get("model_dir") or "", model_dir):
        found.append(f"model_dir: {record.get('model_dir')} -> {model_dir}")
    if record.get("load_epoch") != load_epoch:
        found.append(f"load_epoch: {record.get('load_epoch')} -> {load_epoch}")
    tested = record.get("model") or {}
    if model and tested and tested["started"] != model["started"]:
        found.append(f"the model, trained: {tested['started']} -> {model['started']}")
    now = identity.inputs_of_settings(config)
    now |= {"processes": processes} if of_a_batch and kind == "train" else {}
    return found + identity.differing_inputs(record.get("inputs", {}), now)


def differing_settings(
    record: dict[str, Any],
    config: dict[str, Any],
    ignored: Collection[str] = identity.START,
    of_a_batch: bool = False,
) -> list[str]:
    """All settings in which a record differs from `config`, but for those that only say how a run is started."""
    return identity.differences(record["config"], config, ignored, of_a_batch)


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


def trains(trainer: Any) -> bool:
    """Whether training images decide how it scores; the methods here say so, others by having parameters."""
    return bool(getattr(trainer, "learns", trainable_parameters(trainer)))


def trainable_parameters(trainer: Any) -> int:
    """How many numbers are learned, in the models that the trainer registered."""
    models = [trainer._models[name] for name in trainer.get_model_names()]
    learned = {p for model in models for p in model.parameters() if p.requires_grad}
    return sum(p.numel() for p in learned)


def _peak_memory(trainer: Any) -> dict[str, Any]:
    import torch

    if trainer.device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(trainer.device), "of": "cuda"}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": resident if sys.platform == "darwin" else resident * 1024, "of": "process"}


def _versions() -> dict[str, str | None]:
    import dassl

    versions: dict[str, str | None] = {"python": platform.python_version(), "commit": _commit()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    versions["dassl"] = getattr(dassl, "__version__", None)
    return versions


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware() -> dict[str, Any]:
    import torch

    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": torch.distributed.get_world_size() if together else 1,
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
