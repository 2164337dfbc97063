"""All records below some folders as one table of results: which protocol, method and cell each belongs to."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs.record import FILE_NAME, differing_settings, read_record
from tools.launching.state import setting

# Settings that do not make another method of a trainer.
NOT_OF_THE_METHOD = {
    "DATASET.ROOT",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "MODEL.TEXT_CHUNK",
    "MODEL.TEXT_MEMORY",
    "TEST.CLASS_CHUNK",
    "TEST.FEATURE_CACHE",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.TOP_K",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.COMPILE",
    "TRAIN.CUDA_GRAPH",
    "TRAIN.FEATURE_CACHE",
    "TRAIN.PRINT_FREQ",
    "TRAIN.RESUME_INTERVAL",
    "USE_CUDA",
}


@dataclass
class Result:
    """One test of one model.

    Attributes:
        protocol: fewshot, base, new, transfer, prompt_length or overfitting.
        method: the trainer, with the settings that tell it from others of the same trainer where there are any.
        shots: what the model was trained on; 0 where nothing is learned.
        source: data set that a transferred model was trained on, "" otherwise.
        length: context tokens, of prompt_length, else 0.
        epoch: of the tested checkpoint, of overfitting, else 0.
        subset: base, new or all.
        record: all of it.
    """

    path: Path
    protocol: str
    method: str
    backbone: str
    dataset: str
    seed: int
    shots: int
    source: str
    length: int
    epoch: int
    subset: str
    accuracy: float
    record: dict[str, Any] = field(repr=False)

    @property
    def learns(self) -> bool:
        return bool(self.record["trainable_parameters"])

    @property
    def cell(self) -> tuple[Any, ...]:
        """What a table has one value for."""
        return (
            self.protocol,
            self.method,
            self.backbone,
            self.dataset,
            self.seed,
            self.shots,
            self.source,
            self.length,
            self.epoch,
            self.subset,
        )


def collect(folders: Iterable[Path]) -> tuple[list[Result], list[str]]:
    """The results below `folders`, in a fixed order, and warnings about what was left out or does not fit together.

    FileNotFoundError where there is none, saying what was looked for.
    """
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    warnings: list[str] = []
    records: dict[Path, dict[str, Any]] = {}
    for path in sorted({path.resolve() for folder in folders for path in folder.rglob(FILE_NAME)}):
        try:
            records[path] = read_record(path)
        except (ValueError, OSError) as error:
            warnings.append(f"skipped: {error}")
    results = []
    for path, record in records.items():
        try:
            results.append(_result(path, record, records))
        except (ValueError, KeyError) as error:
            reason = f"{error} missing" if isinstance(error, KeyError) else str(error)
            warnings.append(f"skipped: {path}: {reason}")
    results = [result for result in results if result.protocol]
    if not results:
        skipped = f"; {len(warnings)} skipped: {warnings[0]}" if warnings else ""
        raise FileNotFoundError(
            f"no tested run below {', '.join(map(str, folders))} (looked for {FILE_NAME}){skipped}"
        )
    _name_methods(results)
    results, doubled = _without_doubles(results)
    return results, warnings + doubled


def _result(path: Path, record: dict[str, Any], records: dict[Path, dict[str, Any]]) -> Result:
    if not record["metrics"]:
        raise ValueError("not tested")
    parts = path.parts
    subset = record["config"].get("DATASET", {}).get("SUBSAMPLE_CLASSES", "all")
    learns, tests = bool(record["trainable_parameters"]), record["kind"] == "eval"
    shots, source, length, epoch = record["shots"] if learns else 0, "", 0, 0
    if "overfitting" in parts:
        protocol, epoch = "overfitting" if tests else "", record["load_epoch"] or 0
    elif "prompt_length" in parts:
        protocol, length = "prompt_length", _length(parts)
    elif subset == "new" and learns and not tests:
        raise ValueError("trained on the new classes, which no protocol does")
    elif subset in ("base", "new"):
        protocol = subset
    elif tests and learns:
        source, shots = _source(record["model_dir"], records)
        # Testing a model once more where it was trained is the training run's own result.
        protocol = "transfer" if source != record["dataset"] else "fewshot"
        source = source if protocol == "transfer" else ""
    else:
        protocol = "fewshot"
    return Result(
        path,
        protocol,
        record["trainer"],
        record["backbone"],
        record["dataset"],
        record["seed"],
        shots,
        source,
        length,
        epoch,
        subset,
        record["metrics"]["accuracy"],
        record,
    )


def _length(parts: tuple[str, ...]) -> int:
    for part in parts:
        if found := re.fullmatch(r"nctx(\d+)", part):
            return int(found.group(1))
    raise ValueError("below prompt_length/, but in no folder like nctx4")


def _source(model_dir: str, records: dict[Path, dict[str, Any]]) -> tuple[str, int]:
    """The data set and the shots that the model in `model_dir` was trained with, by its own record."""
    wanted = Path(model_dir).parts
    for path, record in records.items():
        folder = path.parent.parts
        # The outputs may have been moved since: the longest end that both have decides below.
        if folder[-len(wanted) :] == wanted or folder[-4:] == wanted[-4:]:
            return record["dataset"], record["shots"]
    raise ValueError(f"the record of the model that it tests, {model_dir}, is not there")


def _name_methods(results: list[Result]) -> None:
    """Where one cell holds runs of one trainer with different settings, add these to the method's name."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.method, result.backbone].append(result)
    for group in groups.values():
        cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
        for result in group:
            cells[result.cell].append(result)
        varying = {
            difference.partition(":")[0]
            for cell in cells.values()
            for result in cell[1:]
            for difference in differing_settings(cell[0].record, result.record["config"])
        }
        for result in group if varying - NOT_OF_THE_METHOD else []:
            said = (
                f"{key.rpartition('.')[2]} {setting(result.record['config'], key)}"
                for key in sorted(varying - NOT_OF_THE_METHOD)
            )
            result.method = f"{result.method} ({', '.join(said)})"


def _without_doubles(results: list[Result]) -> tuple[list[Result], list[str]]:
    """One result for each cell, the latest; a warning where others of the same settings differ from it."""
    cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: (result.record["time"]["started"], result.path)):
        cells[result.cell].append(result)
    warnings = []
    for cell in cells.values():
        if len({result.accuracy for result in cell}) > 1:
            found = ", ".join(f"{result.accuracy:.2f}" for result in cell)
            warnings.append(
                f"{len(cell)} runs of {cell[0].method} on {cell[0].dataset} with seed {cell[0].seed} have the same "
                f"settings and different results ({found}); the latest counts: {cell[-1].path}"
            )
    return sorted((cell[-1] for cell in cells.values()), key=lambda result: result.cell), warnings


def mixtures(results: list[Result]) -> list[str]:
    """Warnings about results that should not stand in one table: of different code, weights or draws."""
    warnings = []
    commits = _count(result.record.get("versions", {}).get("commit") for result in results)
    if len(commits) > 1:
        warnings.append(f"runs of different code are mixed: {_listed(commits)}")
    elif any(str(commit).endswith("-dirty") for commit in commits):
        warnings.append("the code had uncommitted changes, so all runs may not be of the same code")
    by_backbone: dict[str, list[Any]] = defaultdict(list)
    draws: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for result in results:
        by_backbone[result.backbone].append(result.record.get("backbone_hash"))
        if result.learns and result.record["kind"] == "train":
            draws[result.dataset, result.subset, result.shots, result.seed].append(
                result.record.get("few_shot_hash")
            )
    for backbone, hashes in by_backbone.items():
        if len(counted := _count(hashes)) > 1:
            warnings.append(f"runs with different weights of {backbone} are mixed: {_listed(counted)}")
    for (dataset, subset, shots, seed), hashes in draws.items():
        if len(counted := _count(hashes)) > 1:
            which = "" if subset == "all" else f" ({subset} classes)"
            warnings.append(
                f"{dataset}{which}: the methods did not see the same {shots} shots of seed {seed}: {_listed(counted)}"
            )
    return warnings


def _count(values: Iterable[Any]) -> dict[Any, int]:
    counted: dict[Any, int] = {}
    for value in values:
        counted[value] = counted.get(value, 0) + 1
    return counted


def _listed(counted: dict[Any, int]) -> str:
    def short(value: Any) -> str:
        text = str(value)
        dirty = "-dirty" if text.endswith("-dirty") else ""
        return text.removesuffix("-dirty")[:8] + dirty

    return ", ".join(
        f"{short(value)} ({number} run{'s' * (number != 1)})" for value, number in counted.items()
    )
