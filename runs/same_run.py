"""Whether a record is of the run that is asked for."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from foundation import identity
from runs.record import read_record


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


def differing_settings(
    record: dict[str, Any],
    config: dict[str, Any],
    ignored: Collection[str] = identity.START,
    of_a_batch: bool = False,
) -> list[str]:
    """All settings in which a record differs from `config`, but for those that only say how a run is started."""
    return identity.differences(record["config"], config, ignored, of_a_batch)


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
