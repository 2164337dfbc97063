"""All records below some folders as one table of results: which protocol, method and cell each belongs to."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from foundation.identity import NOT_OF_THE_RESULT, OWN_IMAGES, differences
from runs.record import FILE_NAME, read_record
from tools.launching.state import setting

# Settings that an evaluation of a loaded model has, and that say nothing of it.
OF_TRAINING = ("SEED", "DATASET.NUM_SHOTS", "OPTIM.", "TRAIN.", "DATALOADER.TRAIN")
NOT_OF_THE_METHOD = NOT_OF_THE_RESULT | {"DATASET.ROOT"}  # the folder of own images makes another data set
SUBSETS = {"all": "all classes", "base": "the base classes", "new": "the new classes"}


@dataclass
class Result:
    """One test of one model.

    Attributes:
        protocol: fewshot, base, new, transfer, prompt_length or overfitting.
        trainer: its name.
        split: of the images that were tested, test or val.
        seed, shots: of the model's training; 0 shots where nothing is learned.
        source: data set that a transferred model was trained on, "" otherwise.
        length: context tokens, of prompt_length, else 0.
        epoch: of the tested checkpoint, of overfitting, else 0.
        subset: base, new or all.
        record: all of it.
        training: the record of the model's training, which is `record` itself unless a model was loaded.
        variant: the settings that tell it from other results of the trainer, where there are any.
    """

    path: Path
    protocol: str
    trainer: str
    backbone: str
    split: str
    dataset: str
    seed: int
    shots: int
    source: str
    length: int
    epoch: int
    subset: str
    accuracy: float
    record: dict[str, Any] = field(repr=False)
    training: dict[str, Any] = field(repr=False)
    variant: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The trainer, with all settings that tell it from others of the same trainer."""
        return method_name(self.trainer, self.variant)

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
            self.split,
            self.dataset,
            self.seed,
            self.shots,
            self.source,
            self.length,
            self.epoch,
            self.subset,
        )


def method_name(trainer: str, variant: dict[str, Any]) -> str:
    """ "CoOp", or "CoOp (LR 0.1, CTX_INIT 'a photo of a')"; a key's section only where two keys end alike."""
    ends = [key.rpartition(".")[2] for key in variant]
    said = [
        f"{key if ends.count(end) > 1 else end} {_shown(value)}"
        for (key, value), end in zip(variant.items(), ends)
    ]
    return f"{trainer} ({', '.join(said)})" if said else trainer


def _shown(value: Any) -> str:
    """A setting's value on one line, "-" where a record does not have it."""
    if value is None:
        return "-"
    text = " ".join(str(value).split())
    return f"'{text}'" if isinstance(value, str) and (" " in text or not text) else text


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
    results, without_model = [], []
    for path, record in records.items():
        try:
            result = _result(path, record, records)
        except (ValueError, KeyError) as error:
            reason = f"{error} missing" if isinstance(error, KeyError) else str(error)
            warnings.append(f"skipped: {path}: {reason}")
            continue
        if result.protocol:
            results.append(result)
            if result.training is record and result.learns and record["kind"] == "eval":
                without_model.append(path)
    if not results:
        skipped = f"; {len(warnings)} skipped: {warnings[0]}" if warnings else ""
        raise FileNotFoundError(
            f"no tested run below {', '.join(map(str, folders))} (looked for {FILE_NAME}){skipped}"
        )
    if without_model:
        warnings.append(
            f"{len(without_model)} tested models have no record here and are taken to be of the base classes of the "
            f"same data set, shots and seed: {without_model[0]}"
        )
    _name_own_images(results)
    _name_methods(results)
    results, unvaried = _of_varied_length(results)
    results, doubled = _without_doubles(results)
    return results, warnings + unvaried + doubled


def _result(path: Path, record: dict[str, Any], records: dict[Path, dict[str, Any]]) -> Result:
    if not record["metrics"]:
        raise ValueError("not tested")
    subset = _subset(record)
    learns, tests = bool(record["trainable_parameters"]), record["kind"] == "eval"
    training = record
    if learns and tests:
        training = _training(path, record, records) or record
    protocol, dataset, source = _protocol(record, training, learns, tests), record["dataset"], ""
    length = epoch = 0
    if protocol == "transfer":
        source = training["dataset"]
    elif length := _length(path.parts):
        dataset += "" if subset == "all" else f", {subset} classes"
        protocol = "prompt_length"
    elif _is_overfitting(path.parts):
        # The training alone is no point of the curve: its model is tested as the last epoch's.
        protocol, epoch = "overfitting" if tests else "", record["load_epoch"] or 0
    return Result(
        path,
        protocol,
        record["trainer"],
        record["backbone"],
        setting(record["config"], "TEST.SPLIT") or "test",
        dataset,
        training["seed"],
        training["shots"] if learns else 0,
        source,
        length,
        epoch,
        subset,
        record["metrics"]["accuracy"],
        record,
        training,
    )


def _subset(record: dict[str, Any]) -> str:
    return setting(record["config"], "DATASET.SUBSAMPLE_CLASSES") or "all"


def _protocol(record: dict[str, Any], training: dict[str, Any], learns: bool, tests: bool) -> str:
    """fewshot, base, new or transfer, by the classes and data sets of training and test.

    ValueError for a pair of them that no protocol has.
    """
    tested, trained = _subset(record), _subset(training)
    if not learns:
        return "fewshot" if tested == "all" else tested
    if not tests:
        if tested == "new":
            raise ValueError("trained on the new classes, which no protocol does")
        return "fewshot" if tested == "all" else tested
    if training is record:
        if tested == "all":
            raise ValueError(f"the record of the model that it tests, {record['model_dir']}, is not there")
        return tested
    same = training["dataset"] == record["dataset"]
    if trained == tested == "all":
        # Testing a model once more where it was trained is the training run's own result.
        return "fewshot" if same else "transfer"
    if same and trained == "base" and tested in ("base", "new"):
        return tested
    raise ValueError(
        f"trained on {SUBSETS.get(trained, trained)} of {training['dataset']} and tested on "
        f"{SUBSETS.get(tested, tested)} of {record['dataset']}, which no protocol does"
    )


def _length(parts: tuple[str, ...]) -> int:
    """The context tokens that a folder of prompt_length is named after; 0 for other folders.

    ValueError where the protocol's layout has no such folder.
    """
    for place in (place for place, part in enumerate(parts) if part == "prompt_length"):
        below = parts[place + 1 :]
        for part in below:
            if found := re.fullmatch(r"nctx(\d+)", part):
                return int(found.group(1))
        if len(below) > 1 and below[1].startswith("shots_"):
            raise ValueError("below prompt_length/, but in no folder like nctx4")
    return 0


def _is_overfitting(parts: tuple[str, ...]) -> bool:
    """Whether it lies below overfitting/{train_base,test_base,test_new}; a folder of that name alone says nothing."""
    below = ("train_base", "test_base", "test_new")
    return any(part == "overfitting" and after in below for part, after in pairwise(parts))


def _training(
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


def _name_own_images(results: list[Result]) -> None:
    """Tell folders of own images apart by their names, with as much of their paths as that needs."""
    own = [result for result in results if OWN_IMAGES in (result.dataset, result.source)]
    roots = {tuple(Path(_root(result.record)).parts) for result in own}
    roots |= {tuple(Path(_root(result.training)).parts) for result in own}

    def name(record: dict[str, Any]) -> str:
        parts = Path(_root(record)).parts
        for n in range(1, len(parts) + 1):
            if all(_one_ends_the_other(root, parts) for root in roots if root[-n:] == parts[-n:]):
                break
        return f"{OWN_IMAGES} ({'/'.join(parts[-n:])})" if parts else OWN_IMAGES

    for result in own:
        if result.dataset == OWN_IMAGES:
            result.dataset = name(result.record)
        if result.source == OWN_IMAGES:
            result.source = name(result.training)


def _root(record: dict[str, Any]) -> str:
    root = setting(record["config"], "DATASET.ROOT") or ""
    file = setting(record["config"], "DATASET.IMAGE_FOLDER.CSV") or ""
    return os.path.normpath(os.path.join(root, file)) if root or file else ""


def _one_ends_the_other(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """A relative path and an absolute one may be the same folder."""
    shorter = min(len(a), len(b))
    return a[-shorter:] == b[-shorter:]


def _name_methods(results: list[Result]) -> None:
    """Where one cell holds runs of one trainer with different settings, these become its results' variants.

    Settings are those of the training and those of the test: a test of a loaded model need not repeat the former.
    """
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.trainer, result.backbone].append(result)
    for group in groups.values():
        cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
        for result in group:
            cells[result.cell].append(result)
        pairs = [pair for cell in cells.values() for pair in combinations(cell, 2)]
        in_training = _varying((a.training, b.training) for a, b in pairs)
        in_test = _varying((a.record, b.record) for a, b in pairs) - in_training
        in_test = {key for key in in_test if not key.startswith(OF_TRAINING)}
        for result in group:
            result.variant = {key: setting(result.training["config"], key) for key in sorted(in_training)}
            result.variant |= {key: setting(result.record["config"], key) for key in sorted(in_test)}
            if any(_loaded(a) != _loaded(b) for a, b in pairs):
                result.variant["LOAD_EPOCH"] = _loaded(result)


def _varying(pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> set[str]:
    """The settings that two records of one cell both have, with different values."""
    return {
        difference.partition(":")[0]
        for a, b in pairs
        if a is not b
        for difference in differences(
            a["config"], b["config"], NOT_OF_THE_METHOD, a.get("scores_batches", False)
        )
    }


def _loaded(result: Result) -> int | None:
    """The epoch of the model that was tested, None for the last one."""
    epoch = result.record.get("load_epoch")
    last = setting(result.training["config"], "OPTIM.MAX_EPOCH")
    return None if str(epoch) == str(last) else epoch


def _of_varied_length(results: list[Result]) -> tuple[list[Result], list[str]]:
    """Without the results of prompt_length whose models are of one size whatever the folder is named."""
    series: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in results:
        if result.protocol == "prompt_length":
            size = result.record["trainable_parameters"]
            series[result.method, result.backbone, result.dataset, result.seed, result.shots, size].append(
                result
            )
    wrong: set[Path] = set()
    warnings = []
    for found in series.values():
        lengths = sorted({result.length for result in found})
        if len(lengths) > 1:
            wrong |= {result.path for result in found}
            names = ", ".join(f"nctx{length}" for length in lengths)
            warnings.append(
                f"skipped: the prompt length of {found[0].method} on {found[0].dataset} with seed {found[0].seed} did "
                f"not vary, models of {names} have {found[0].record['trainable_parameters']:,} parameters each"
            )
    return [result for result in results if result.path not in wrong], warnings


def _without_doubles(results: list[Result]) -> tuple[list[Result], list[str]]:
    """One result for each cell, the latest; a warning where others of the same settings differ from it."""
    cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: (result.record["time"]["started"], result.path)):
        cells[result.cell].append(result)
    differing: dict[str, list[list[Result]]] = defaultdict(list)
    for cell in cells.values():
        if len({result.accuracy for result in cell}) > 1:
            differing[cell[0].method].append(cell)
    warnings = []
    for method, (cell, *others) in differing.items():
        found = ", ".join(f"{result.accuracy:.2f}" for result in cell)
        more = f" (so it is {len(others)} times more)" if others else ""
        warnings.append(
            f"{len(cell)} runs of {method} on {cell[0].dataset} with seed {cell[0].seed} have the same settings and "
            f"different results ({found}); the latest counts: {cell[-1].path}{more}"
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
    drawn_for: dict[tuple[Any, ...], set[tuple[int, int]]] = defaultdict(set)  # (shots, seed) of a draw
    images: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for result in results:
        images[result.dataset, result.subset, result.split].append(result.record["metrics"].get("images"))
        by_backbone[result.backbone].append(result.record.get("backbone_hash"))
        if result.learns and result.record["kind"] == "train":
            draws[result.dataset, result.subset, result.shots, result.seed].append(
                result.record.get("few_shot_hash")
            )
            if few_shot := result.record.get("few_shot_hash"):
                drawn_for[result.dataset, result.subset, few_shot].add((result.shots, result.seed))
    for backbone, hashes in by_backbone.items():
        if len(counted := _count(hashes)) > 1:
            warnings.append(f"runs with different weights of {backbone} are mixed: {_listed(counted)}")
    for (dataset, subset, _), found in images.items():
        if len(counted := _count(found)) > 1:
            warnings.append(
                f"{dataset}{_which(subset)}: not all were tested on as many images: {_listed(counted)}"
            )
    for (dataset, subset, _), drawn in drawn_for.items():
        numbers, seeds = ({pair[i] for pair in drawn} for i in (0, 1))
        if len(numbers) > 1:
            listed = " and ".join(map(str, sorted(numbers)))
            warnings.append(f"{dataset}{_which(subset)}: {listed} shots are the same images")
        elif len(seeds) > 1 and min(numbers) > 0:  # 0 and less: all images, whatever the seed
            listed = " and ".join(map(str, sorted(seeds)))
            warnings.append(
                f"{dataset}{_which(subset)}: {min(numbers)} shots of seeds {listed} are the same images"
            )
    for (dataset, subset, shots, seed), hashes in draws.items():
        if len(counted := _count(hashes)) > 1:
            warnings.append(
                f"{dataset}{_which(subset)}: the methods did not see the same {shots} shots of seed {seed}: "
                f"{_listed(counted)}"
            )
    return warnings


def _which(subset: str) -> str:
    return "" if subset == "all" else f" ({subset} classes)"


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
