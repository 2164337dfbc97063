"""The training whose model an evaluation has tested: where its record lies, or what the evaluation says of it."""

import os
import re
from pathlib import Path
from typing import Any

from tools.launching.state import setting


def training_of(
    path: Path, record: dict[str, Any], records: dict[Path, dict[str, Any]]
) -> dict[str, Any] | None:
    """The record of the training whose model an evaluation has tested, None where nothing is known of it.

    ValueError where another model lies in its place by now.
    """
    found = _found(path, record, records)
    said = record.get("model")  # of its model, by the test itself
    if not said:
        return found
    if found and found["time"]["started"] == said["started"]:
        return found
    if found:
        raise ValueError(f"the model that it tests, {record['model_dir']}, has been trained anew since")
    subset = {**record["config"].get("DATASET", {}), "SUBSAMPLE_CLASSES": said["subset"] or "all"}
    about = {key: said[key] for key in ("dataset", "seed", "shots")}
    return {**record, **about, "config": {**record["config"], "DATASET": subset}}


def _found(path: Path, record: dict[str, Any], records: dict[Path, dict[str, Any]]) -> dict[str, Any] | None:
    """The record of the training that lies where the model of an evaluation was, None where there is none.

    The folders that it knows are those of then, and maybe relative to where it was started. Where its own folder lies
    now says where that of the model lies, if both were moved together; else the protocols' layout is looked for.
    """
    trainings = {at.parent: found for at, found in records.items() if found["kind"] == "train"}
    model, own = Path(record["model_dir"]), Path(setting(record["config"], "OUTPUT_DIR") or "")
    candidates = [model, *_moved_along(model, own, path.parent)]
    for candidate in candidates:
        for folder in (candidate, candidate.parent):  # that of the checkpoint is understood as the run's
            if folder in trainings:
                return trainings[folder]
    tail = _layout(model.parts)
    found = [there for at, there in trainings.items() if tail and at.parts[-len(tail) :] == tail]
    if said := record.get("model"):
        found = [there for there in found if there["time"]["started"] == said["started"]]
    if len(found) > 1:
        raise ValueError(f"{len(found)} records may be that of the model that it tests, {model}")
    return found[0] if found else None


def _moved_along(model: Path, own: Path, here: Path) -> list[Path]:
    """Where `model` lies if `own`, recorded beside it, is what lies at `here` now."""
    if model.is_absolute() != own.is_absolute():
        return []
    was, now = Path(os.path.normpath(own)).parts, here.parts
    while was and now and was[-1] == now[-1]:
        was, now = was[:-1], now[:-1]
    parts = Path(os.path.normpath(model)).parts
    if parts[: len(was)] != was:
        return []
    return [Path(os.path.normpath(Path(*now, *parts[len(was) :])))]


def _layout(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The end of a model's folder that the layouts of CoOp and MaPLe give, with the data set in it; () for others."""
    if "train_base" in parts:
        return parts[parts.index("train_base") :]
    if len(parts) >= 4 and re.fullmatch(r".+_\d+shots", parts[-2]) and re.fullmatch(r"seed\d+", parts[-1]):
        return parts[-4:]
    return ()
