"""What makes two runs the same run: the settings that decide the result, and what lies behind the names in them.

Everybody who asks "is this the run that was asked for?" asks here: train.py of its folder, the engine of the file it
continues from, the launcher of a grid, the report of a table.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import Any

from foundation import written_texts
from foundation.errors import WrongInput
from foundation.keys import older
from foundation.keys.of_all_runs import ALL_RUNS

#: How a run is started: of no interest once it is done.
START = frozenset({"OUTPUT_DIR", "RESUME", "VERBOSE", "TRAIN.OVERWRITE"})
#: Where and how it computes, not what.
COMPUTING = frozenset(
    {
        "USE_CUDA",
        "DATALOADER.CACHE_MB",
        "DATALOADER.NUM_WORKERS",
        "DATALOADER.TEST.BATCH_SIZE",
        "MODEL.TEXT_CHUNK",
        "MODEL.TEXT_MEMORY",
        "TEST.CLASS_CHUNK",
        "TEST.FEATURE_CACHE",
        "TRAIN.COMPILE",
        "TRAIN.CUDA_GRAPH",
        "TRAIN.FEATURE_CACHE",
        "TRAIN.PRINT_FREQ",
        "TRAIN.RESUME_INTERVAL",
    }
)
#: What it leaves beside its result. A run may continue with others, but a finished one has not left them.
LEFT = frozenset(
    {
        "TEST.COMPUTE_CMAT",
        "TEST.OOD",
        "TEST.PER_CLASS_RESULT",
        "TEST.TEMPERATURE",
        "TEST.TOP_K",
        "TRAIN.CHECKPOINT_FREQ",
    }
)
NOT_OF_THE_RESULT = START | COMPUTING | LEFT
#: Of COMPUTING, what decides the result of a method that scores the images of a batch together.
OF_A_BATCH = ("DATALOADER.TEST.BATCH_SIZE", "TEST.CLASS_CHUNK")
#: The data set whose images are whatever lies in the data root; of others the root is only where they lie.
OWN_IMAGES = "ImageFolder"
CLASS_TEXTS = "class texts"  #: what the user's texts are called among the inputs
PATHS = ("DATASET.ROOT", "TEST.OOD", written_texts.CLASS_TEXTS)  # however they are written
NAMES = ("TRAINER.NAME", "DATASET.NAME", "SEED")  # what a person wants to hear of first


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their whole keys, like "OPTIM.LR"."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def differences(
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    ignored: Collection[str] = NOT_OF_THE_RESULT,
    of_a_batch: bool = False,
) -> list[str]:
    """Where two configs, nested or flat, differ, as `KEY: then -> now`, the most telling first.

    A key that only one of them has does not count: a later version of a program declares more keys. Of a key of all
    runs it is known what was done without it, what its default says, and so it is of those in foundation/keys/older.py.
    The data root counts where it decides which images there are, and it and the file of class texts count however they
    are written.

    Args:
        of_a_batch: the method scores the images of a batch together, see `scores_batches`.
    """
    before, after = flat(then), flat(now)
    before |= older.missing(before)
    after |= older.missing(after)
    for key in before.keys() ^ after.keys():
        if key in ALL_RUNS:
            before.setdefault(key, ALL_RUNS[key].default)
            after.setdefault(key, ALL_RUNS[key].default)
    skipped = set(ignored) - set(OF_A_BATCH if of_a_batch else ())
    roots = before.get("DATASET.ROOT"), after.get("DATASET.ROOT")
    if after.get("DATASET.NAME") != OWN_IMAGES or not all(roots):  # "": not given
        skipped.add("DATASET.ROOT")
    keys = [
        key
        for key in before.keys() & after.keys() - skipped
        if _comparable(key, before[key]) != _comparable(key, after[key])
    ]
    keys.sort(key=lambda key: (NAMES.index(key) if key in NAMES else len(NAMES), key))
    return [f"{key}: {before[key]} -> {after[key]}" for key in keys]


def differing_inputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two `inputs` differ, in the same form."""
    return [
        f"{name}: {then[name]} -> {now[name]}" for name in then if name in now and then[name] != now[name]
    ]


def listed(found: list[str], most: int = 3) -> str:
    """Differences as a part of one line."""
    return "; ".join(found[:most]) + ("; ..." if len(found) > most else "")


def refuse(place: str | os.PathLike, what: str, found: list[str], anew: str) -> None:
    """Refuse to continue a run that is another.

    Args:
        place: the folder or the file that says which run it is.
        what: the differences are of.
        found: the differences; where there are none, nothing is refused.
        anew: what is to be done to begin anew.

    Raises:
        ValueError: it is another.
    """
    if found:
        raise WrongInput(
            f"{place} is of an unfinished run with other {what} ({listed(found)}): "
            f"choose another output folder, or begin anew with {anew}"
        )


def same_path(one: str, other: str) -> bool:
    """Whether two texts name one file or folder; "" names none."""
    return one == other or bool(one and other and _path(one) == _path(other))


def inputs(trainer: Any) -> dict[str, Any]:
    """Short hashes of what a trainer was built from and its settings only name; for messages by what they are.

    The backbone's weights where the trainer has `backbone_hash`; the images of each part, by their paths below the
    folder that holds all of them, with labels; the class names; the template; the user's texts of the classes. Of a
    method that scores the images of a batch together also the number of processes, which share them.
    """
    found: dict[str, Any] = {}
    if getattr(trainer, "backbone_hash", None):
        found["backbone weights"] = trainer.backbone_hash
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    if dataset is not None:
        parts = {
            "training images": getattr(dataset, "train_x", None) or (),
            "unlabelled images": getattr(dataset, "train_u", None) or (),
            "validation images": getattr(dataset, "val", None) or (),
            "test images": getattr(dataset, "test", None) or (),
        }
        start = _common_folder(str(item.impath) for part in parts.values() for item in part)
        for name, part in parts.items():
            if part:
                found[name] = _hash(
                    f"{str(item.impath)[start:]}\t{item.label}\t{item.domain}" for item in part
                )
        found["class names"] = _hash(getattr(dataset, "classnames", None) or ())
        if getattr(dataset, "template", None):
            found["template"] = dataset.template
    if texts := getattr(trainer, "written_texts", None):
        found[CLASS_TEXTS] = written_texts.content_hash(texts)
    if scores_batches(trainer):
        from . import processes  # here, because it takes seconds, and a report needs none of it

        found["processes"] = processes.count()
    return found


def inputs_of_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of `inputs` can be told before anything is built: the user's texts of the classes, where there are some."""
    texts = written_texts.class_texts(config)
    return {CLASS_TEXTS: written_texts.content_hash(texts)} if texts else {}


def scores_batches(trainer: Any) -> bool:
    """Whether the score of an image depends on the others of its batch; the trainer says so."""
    return bool(getattr(trainer, "scores_batches", False))


def _comparable(key: str, value: Any) -> Any:
    if key in PATHS:
        return _path(value) if value else value
    return json.dumps(value, default=str) if isinstance(value, (list, tuple)) else value


def _path(text: str) -> str:
    return os.path.realpath(os.path.expanduser(text))


def _common_folder(paths: Iterable[str]) -> int:
    """Length of the folder's name, with its slash, below which all `paths` lie."""
    ordered = list(paths)
    if not ordered:
        return 0
    common = os.path.commonprefix([min(ordered), max(ordered)])  # noqa: RUF071  (of all: they are in order)
    return common.rfind("/") + 1


def _hash(lines: Iterable[str]) -> str:
    digest = sha256()
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
