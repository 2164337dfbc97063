"""`--to hub`: a folder to publish: model card, settings and what was learned."""

import json
from pathlib import Path
from typing import Any

from foundation.identity import flat
from runs import class_texts
from runs.prediction import TrainedRun
from runs.schema import declared_keys
from trainers.learned_folder import SETTINGS, WEIGHTS, learned_bytes

CARD = "README.md"
#: Of a record, what says what was trained and how; not whose machine it was.
PUBLISHED = (
    *("schema", "trainer", "dataset", "backbone", "seed", "shots", "config", "classnames", "inputs"),
    *(
        "scores_batches",
        "metrics",
        "trainable_parameters",
        "learns",
        "disclosures",
        "time",
        "backbone_hash",
        "few_shot_hash",
        "versions",
    ),
)
#: Settings on the card; all are beside it.
SHOWN = ("TRAINER.", "OPTIM.NAME", "OPTIM.LR", "OPTIM.MAX_EPOCH", "DATASET.SUBSAMPLE_CLASSES")


def write(run: TrainedRun, folder: Path) -> str:
    """The three files, and the classes' texts where the user has given some that the method scores with."""
    settings = published_record(run)
    (folder / WEIGHTS).write_bytes(learned_bytes(run.model))
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8")
    class_texts.keep(run.model.written_texts.texts, folder)
    (folder / CARD).write_text(card(run, settings), encoding="utf-8")
    learned = sum(parameter.numel() for parameter in run.model.parameters())
    return f"{learned:,} learned numbers"


def published_record(run: TrainedRun) -> dict[str, Any]:
    """The record of the run without the machine that it ran on, as a run of its own classes."""
    record = {key: run.record[key] for key in PUBLISHED if key in run.record}
    record |= {"kind": "train", "model_dir": "", "load_epoch": None, "classnames": run.classnames}
    record["inputs"] = {**record.get("inputs", {}), "template": run.template}
    record["config"] = config = json.loads(json.dumps(record["config"]))
    places = [
        name for name, key in declared_keys(record["trainer"], record["dataset"]).items() if key.is_path
    ]
    for key in places:
        *sections, name = key.split(".")
        section = config
        for part in sections:
            section = section.get(part, {})
        if section.get(name):
            section[name] = ""
    if run.model.written_texts.texts:
        config["DATASET"]["CLASS_TEXTS"] = class_texts.FILE_NAME
    if Path(run.model.clip.name).is_file():
        record["backbone"] = config["MODEL"]["BACKBONE"]["NAME"] = Path(run.model.clip.name).name
    return record


def card(run: TrainedRun, record: dict[str, Any]) -> str:
    """The model card: what it is, how good, how it was trained, how it is used."""
    method, dataset, metrics = record["trainer"], record["dataset"], record["metrics"]
    front = ["---", "library_name: mmprompt", "pipeline_tag: image-classification"]
    front += ["tags:", "- clip", "- prompt-learning", f"- {method.lower()}", "---"]
    lines = [
        *front,
        f"# {method} on {dataset}",
        "",
        f"Prompts learned with {method} for CLIP ({record['backbone']}, weights of hash {record['backbone_hash']}) on "
        f"{dataset}, {_shots(record['shots'])}, seed {record['seed']}. The backbone is not in this folder.",
        "",
    ]
    if metrics:
        lines += ["| | |", "|---|---|"]
        lines += [
            f"| {name} | {metrics[key]:.2f} % |"
            for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro F1"))
            if key in metrics
        ]
        lines += [f"| images tested | {metrics['images']:,} |", ""]
    lines += ["## Use", "", "In a checkout of mmprompt, with this folder or `hf-hub:owner/name`:", ""]
    lines += ["    python tools/predict.py THIS_FOLDER image.jpg", ""]
    lines += [f"## Classes ({len(run.classnames)})", "", ", ".join(run.classnames), ""]
    shown = {
        key: value for key, value in flat(_used(record)).items() if key.startswith(SHOWN) and value != ""
    }
    lines += ["## Settings", "", "All of them are in config.json.", ""]
    lines += [f"    {key} {value}" for key, value in sorted(shown.items())]
    return "\n".join(lines) + "\n"


def _used(record: dict[str, Any]) -> dict[str, Any]:
    """The settings without the sections of other methods."""
    from dassl.engine import TRAINER_REGISTRY

    keys: Any = getattr(TRAINER_REGISTRY.get(record["trainer"]), "declared_keys", dict)()
    sections = {key.split(".")[1] for key in keys if key.startswith("TRAINER.")}
    methods = record["config"]["TRAINER"]
    own = {name: value for name, value in methods.items() if name in sections or not isinstance(value, dict)}
    return {**record["config"], "TRAINER": own}


def _shots(shots: int) -> str:
    return f"{shots} images a class" if shots > 0 else "all training images"
