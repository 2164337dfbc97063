"""What a run has trained, to be used: from its folder to a model that takes images.

    run = load_run("output/shapes/MMTPA")
    for labels, probabilities in run.predict(["one.jpg", "two.jpg"]):
        print(labels[0], probabilities[0])

Settings, backbone, method and class names come from the run's record (result.json), what was learned from its
checkpoint; the data set is not looked at.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from foundation import identity
from foundation.keys import older
from runs import ROOT, class_texts
from runs.folder import can_continue
from runs.prediction import TrainedRun
from runs.record import FILE_NAME, read_record
from runs.schema import extend_cfg
from trainers.base import PromptTrainer
from trainers.class_names import DEFAULT_TEMPLATE, Classes
from trainers.learned_folder import SETTINGS, WEIGHTS, local_folder
from trainers.without_data import without_data

#: Settings that serve a run and not its model. Chunks and captures change the way, not the result.
NOT_USED = {
    "TEST.CLASS_CHUNK": 0,
    "TEST.FEATURE_CACHE": "",
    "TRAIN.FEATURE_CACHE": False,
    "TRAIN.COMPILE": False,
    "TRAINER.CLASS_SAMPLE": 0,
}


def load_run(
    folder: str | Path,
    classes: Sequence[str] | None = None,
    device: str | None = None,
    precision: str | None = None,
    backbone: str | None = None,
) -> TrainedRun:
    """Build the model of a finished run, and load what it has learned.

    Args:
        folder: the run's; of an evaluation, whose classes are then used with the model that it tested; or what
            tools/export.py --to hub has made of a run, or its name on the hub, "hf-hub:owner/name".
        classes: names to put in place of the run's.
        device: "cpu" or "cuda"; None: a GPU where there is one.
        precision: of the towers, in place of the run's.
        backbone: where its weights are, in place of the run's MODEL.BACKBONE.NAME.

    Raises:
        FileNotFoundError: there is no such folder, no finished run in it, or no checkpoint; or not the class texts that
            the method scores with.
        ValueError: the record cannot be read or lacks class names; the method takes no other classes; the backbone is
            another one than the run's; a checkpoint does not fit.
        OSError: the backbone's weights cannot be had.
    """
    folder = local_folder(str(folder))
    record = _read(folder)
    method = _method(record, folder)
    cfg = _settings(record, folder)
    model_dir = _model_dir(record, folder)
    for key, value in (NOT_USED | ({"MODEL.INIT_WEIGHTS": ""} if model_dir else {})).items():
        _set(cfg, key, value)
    cfg.USE_CUDA = _on_gpu(device)
    if method.model_class.zeroshot_guides:
        cfg.DATASET.CLASS_TEXTS, cfg.DATASET.TEMPLATES = "", ()
    else:
        cfg.DATASET.CLASS_TEXTS = class_texts.kept(record, folder)
    if backbone is not None:
        cfg.MODEL.BACKBONE.NAME = backbone
    if precision is not None and "PREC" in cfg.TRAINER.get(getattr(method, "section", ""), {}):
        cfg.TRAINER[method.section].PREC = precision
    cfg.freeze()

    own = _class_names(record)
    names = _checked(classes) if classes is not None else own
    if names is None:
        raise ValueError(
            f"{folder / FILE_NAME} holds no class names (it was written by an older version and without a test): give "
            "them with --classes, in the order of the labels"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = without_data(
            method, cfg, Classes(names, _template(record, cfg), must_differ=classes is not None)
        )
        preprocess = build_transform(cfg, is_train=False)
    run = TrainedRun(folder, record, trainer, preprocess)
    _check_backbone(record, trainer, folder)
    if run.model.own_classes_only and classes is not None and own is not None and names != own:
        raise ValueError(
            f"--classes: the model of {folder} does not generalise, {record['trainer']} has learned something for "
            f"each of its own classes ({_some(own)})"
        )
    if trainer.learns and model_dir:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.load_model(str(model_dir), epoch=record.get("load_epoch"))
        trainer.set_model_mode("eval")
    return run


def _read(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: the output folder of a finished run is needed")
    if not (folder / FILE_NAME).is_file():
        if (folder / WEIGHTS).is_file() and (folder / SETTINGS).is_file():
            return read_record(folder / SETTINGS)
        if can_continue(folder) or any(folder.glob("log.txt*")):
            raise FileNotFoundError(
                f"{folder} holds an unfinished run (no {FILE_NAME}): finish it with its command and --resume {folder}"
            )
        raise FileNotFoundError(
            f"{folder} is not the folder of a run (no {FILE_NAME}): the output folder of a finished run is needed"
        )
    return read_record(folder)


def _model_dir(record: dict[str, Any], folder: Path) -> Path | None:
    """The folder of the checkpoint; None where an evaluation tested what MODEL.INIT_WEIGHTS or nothing has trained."""
    if record["kind"] != "eval":
        return folder
    if not record.get("model_dir"):
        return None
    recorded = Path(record["model_dir"]).expanduser()
    return recorded if recorded.is_dir() else ROOT / recorded  # train.py is mostly called from the checkout


def _method(record: dict[str, Any], folder: Path) -> type[PromptTrainer]:
    name, known = record["trainer"], TRAINER_REGISTRY.registered_names()
    method = TRAINER_REGISTRY.get(name) if name in known else None
    if method is None:
        raise ValueError(
            f"{folder / FILE_NAME}: trainer {name!r} is unknown, choose from: {', '.join(sorted(known))}"
        )
    if not issubclass(method, PromptTrainer):
        raise ValueError(
            f"{folder / FILE_NAME}: {name} is no PromptTrainer, its model can be tested by train.py alone"
        )
    return method


def _settings(record: dict[str, Any], folder: Path) -> CfgNode:
    """The recorded settings; keys that are unknown here belong to another version, which had what they say, and those
    that the method has got since have what it did before.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    for name, value in older.missing(identity.flat(record["config"])).items():
        _set(cfg, name, value)
    _merge(cfg, record["config"], folder, "")
    return cfg


def _merge(cfg: CfgNode, tree: dict[str, Any], folder: Path, prefix: str) -> None:
    for name, value in tree.items():
        if name not in cfg:
            continue
        here = cfg[name]
        if isinstance(here, CfgNode) and isinstance(value, dict):
            _merge(cfg[name], value, folder, f"{prefix}{name}.")
            continue
        value = tuple(value) if isinstance(here, tuple) and isinstance(value, list) else value
        value = float(value) if type(here) is float and type(value) is int else value
        if here is not None and value is not None and type(value) is not type(here):
            raise ValueError(
                f"{folder / FILE_NAME}: {prefix}{name} is {value!r}, a value of type {type(here).__name__} is needed"
            )
        cfg[name] = value


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        cfg = cfg[section]
    if name in cfg:
        cfg[name] = value


def _on_gpu(device: str | None) -> bool:
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"device is {device!r}, choose from: cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch sees no GPU here: cpu is needed")
    return device != "cpu" and torch.cuda.is_available()


def _class_names(record: dict[str, Any]) -> list[str] | None:
    """By label; of older records those that were tested, or None."""
    if record.get("classnames"):
        return list(record["classnames"])
    tested = (record["metrics"] or {}).get("per_class") or []
    return [entry["class"] for entry in tested] or None


def _checked(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise ValueError(f"classes is the text {names!r}, a list of names is needed")
    stripped = [name.strip() for name in names]
    if not stripped or not all(stripped):
        raise ValueError("--classes: at least one class name is needed, and none may be empty")
    return stripped


def _template(record: dict[str, Any], cfg: CfgNode) -> str:
    """The recorded one; of older records the data set's."""
    recorded = record.get("inputs", {}).get("template")
    if recorded:
        return recorded
    if cfg.DATASET.NAME not in DATASET_REGISTRY.registered_names():
        return DEFAULT_TEMPLATE
    dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    own = cfg.DATASET.get("IMAGE_FOLDER", {}).get("TEMPLATE") if dataset.__name__ == "ImageFolder" else None
    return str(own or getattr(dataset, "template", DEFAULT_TEMPLATE))


def _check_backbone(record: dict[str, Any], trainer: Any, folder: Path) -> None:
    recorded, here = record.get("backbone_hash"), trainer.backbone_hash
    if recorded and recorded != here:
        raise ValueError(
            f"{folder} was run with a {record['backbone']!r} of hash {recorded}, the one here has hash {here}: the "
            "same weights are needed"
        )


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
