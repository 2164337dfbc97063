"""Folders of records as train.py leaves them, with accuracies of one's choice."""

import ast
import itertools
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from runs import shipped
from runs.record import SCHEMA, write_record
from tools.launching.run import Run

_seconds = itertools.count()  # each record is a second later than the one before it


def leave(output: Path, run: Run, accuracy: float | None, **changes: Any) -> Path:
    """Write the record of `run` with `accuracy` into its folder; returns the record's path."""
    started = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=next(_seconds))
    settings = dict(zip(run.settings[::2], run.settings[1::2]))
    learns = not run.trainer.startswith("Zeroshot")
    backbone = changes.get("backbone", "ViT-B/16")
    config: dict[str, Any] = {
        "SEED": run.seed,
        "OUTPUT_DIR": str(output / run.folder),
        "MODEL": {"BACKBONE": {"NAME": backbone}},
        "TRAINER": {"NAME": run.trainer},
        "DATASET": {"NAME": shipped.registered_name(run.dataset)},
    }
    for key, value in {"DATASET.SUBSAMPLE_CLASSES": "all", **settings}.items():
        *sections, name = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = _read(value)
    record = {
        "schema": SCHEMA,
        "kind": "eval" if run.evaluates else "train",
        "trainer": run.trainer,
        "dataset": shipped.registered_name(run.dataset),
        "backbone": backbone,
        "seed": run.seed,
        "shots": int(settings.get("DATASET.NUM_SHOTS", -1)),
        "model_dir": str(output / run.tests) if run.tests else "",
        "load_epoch": run.load_epoch,
        "config": config,
        "metrics": None
        if accuracy is None
        else {
            "accuracy": accuracy,
            "error_rate": 100 - accuracy,
            "macro_f1": accuracy,
            "images": 100,
            "per_class": [{"class": "cat", "accuracy": accuracy, "images": 100}],
        },
        "trainable_parameters": 512 * int(settings.get("TRAINER.COOP.N_CTX", 16)) * learns,
        "time": {
            "started": started.isoformat(),
            "finished": (started + timedelta(minutes=1)).isoformat(),
            "setup_seconds": 2.0,
            "run_seconds": 60.0 + run.seed,
            "step_seconds": 0.05 if learns and not run.evaluates else None,
        },
        "peak_memory": {"bytes": 3 * 2**30, "of": "cuda"},
        "backbone_hash": "b1",
        "few_shot_hash": f"{run.dataset} {config['DATASET']['SUBSAMPLE_CLASSES']} {run.shots} {run.seed}",
        "versions": {"commit": "c0ffee"},
        "hardware": {},
        **changes,
    }
    (output / run.folder).mkdir(parents=True, exist_ok=True)
    return write_record(record, output / run.folder)


def _read(value: str) -> Any:
    """A value of the command line, as yacs reads it."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
