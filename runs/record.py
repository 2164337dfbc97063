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
from pathlib import Path
from typing import Any

from foundation.atomic import atomic_write
from foundation.errors import MissingFile, WrongInput
from runs.record_form import FORM

SCHEMA = 4


FILE_NAME = "result.json"


_SHOWN = 60  # characters of a value in a message


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
        if not FORM[name](value):
            raise WrongInput(f"{path} is not the record of a run: {name} is {json.dumps(value)[:_SHOWN]}")
    return record


def _values(record: dict[str, Any]) -> dict[str, Any]:
    """What of a record has a form of its own, by name: `FORM` says which; older records lack some."""
    found = {name: record[name] for name in FORM if name in record}
    for part in ("metrics", "time"):
        if isinstance(record[part], dict):
            found |= {f"{part}.{name}": value for name, value in record[part].items()}
            if part == "metrics":
                found.setdefault("metrics.accuracy", None)
    return {name: value for name, value in found.items() if name in FORM}
