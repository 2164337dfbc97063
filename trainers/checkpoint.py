"""Checkpoints of learnable parameters: ours, and those that the methods' releases wrote."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.utils import load_checkpoint
from foundation.errors import MissingFile, WrongInput

from .learned_folder import WEIGHTS, local_folder, read_learned
from .prompt_model import PromptModel

EXTRA = "_extra_state"  #: torch's key for PromptModel.get_extra_state


def find_checkpoint(directory: str | Path, model_name: str, epoch: int | None) -> Path:
    """``<directory>/<model name>/model.pth.tar-<epoch>``; without an epoch the best one, else the newest.

    Args:
        directory: of the run; or the folder in it that holds the checkpoints, or one of these; or a published folder.

    Raises:
        FileNotFoundError: names the file and lists what is there.
        ValueError: a file is given, and another epoch.
    """
    given = Path(directory)
    if (given / WEIGHTS).is_file():
        return given / WEIGHTS
    if given.is_file():
        if epoch is not None and given.name != f"model.pth.tar-{epoch}":
            raise WrongInput(f"checkpoint {directory} is given, and epoch {epoch}: one of them is enough")
        return given
    folder = given / model_name
    if not folder.is_dir() and any(given.glob("model*.pth.tar*")):
        folder = given
    named = (re.fullmatch(r"model\.pth\.tar-(\d+)", path.name) for path in folder.glob("model.pth.tar-*"))
    epochs = sorted(int(found[1]) for found in named if found)
    best = folder / "model-best.pth.tar"
    if epoch is None and best.is_file():
        return best
    if epoch is None and epochs:
        epoch = epochs[-1]
    path = best if epoch is None else folder / f"model.pth.tar-{epoch}"
    if not path.is_file():
        there = f"epochs there: {', '.join(map(str, epochs))}" if epochs else _others(Path(directory))
        raise MissingFile(f"checkpoint {str(path)!r} does not exist; {there}")
    return path


def read_checkpoint(path: str | Path) -> Any:
    """What is in a checkpoint, whoever wrote it: a file of ours or of a release, or a published folder, by its name.

    Raises:
        FileNotFoundError, ValueError, OSError: there is none, it is damaged, or cannot be fetched.
    """
    local = local_folder(str(path))
    if local.is_dir() and not (local / WEIGHTS).is_file():
        raise MissingFile(
            f"{str(path)!r} is a folder without {WEIGHTS}: a checkpoint or a published folder is needed"
        )
    local = local / WEIGHTS if local.is_dir() else local
    if local.suffix == ".safetensors" and local.is_file():
        return {"state_dict": read_learned(local, EXTRA), "epoch": "published"}
    return load_checkpoint(str(local))


def _others(directory: Path) -> str:
    """What is in a folder that does not hold the checkpoint, by trainer where a file says who wrote it."""
    if not directory.is_dir():
        return f"{str(directory)!r} is no folder"
    found = {}
    for path in sorted(directory.glob("*/model*.pth.tar*")):
        state = load_checkpoint(str(path)).get("state_dict", {})
        written_by = state.get(EXTRA, {}).get("trainer") if isinstance(state, dict) else None
        found[path.parent.name] = path.parent.name + (f" (written by {written_by})" if written_by else "")
    return f"checkpoints there are of {', '.join(found.values())}" if found else "there are no checkpoints"


def load_learned(model: PromptModel, state: Any, source: str) -> None:
    """Set what a model saves, its parameters before all, from a state dict, ours or a release's.

    A release's state dict also holds all of CLIP and class-specific buffers; these are ignored, the class texts are
    rebuilt for the classes at hand.

    Raises:
        ValueError: it is no state dict; another method or backbone wrote it, or it is for other classes where that
            matters (both are named); a parameter is missing, or there is one that this method does not have.
    """
    if not isinstance(state, Mapping):
        raise WrongInput(f"{source} holds no state dict")
    ours = isinstance(state.get(EXTRA), Mapping)
    if ours:
        _compare(model.about, state[EXTRA], source)
    try:
        state = model.take(state)
    except WrongInput as error:
        raise WrongInput(f"{source}: {error}") from error
    own = _saved(model)
    if ours:
        names = {name: name for name in own}
        unexpected = state.keys() - own.keys() - {EXTRA}
    else:
        names = model.released_names()
        used = {name.partition("[")[0] for name in names.values()}
        unexpected = {name for name in state.keys() - used if not _is_ignored(name, model)}
    picked = {name: pick(state, names.get(name, name)) for name in own}
    found = {name: value for name, value in picked.items() if isinstance(value, Tensor)}

    missing = own.keys() - found.keys() - (set() if ours else set(model.released_without))
    if missing or unexpected:
        said = [f"lacks {_listed(names.get(name, name) for name in missing)}"] if missing else []
        said += [f"holds {_listed(unexpected)}, unknown here"] if unexpected else []
        raise WrongInput(
            f"{source} is no checkpoint of {_called(model)} with these settings: it {' and '.join(said)}"
        )
    for name, parameter in own.items():
        if name not in found:
            continue
        if parameter.shape != found[name].shape:
            raise WrongInput(
                f"{source}: {names.get(name, name)} has shape {tuple(found[name].shape)}, {tuple(parameter.shape)} is "
                f"needed: another backbone than {model.clip.name}, another number of classes or of context tokens"
            )
        if not torch.isfinite(found[name]).all():
            raise ValueError(f"{source}: {names.get(name, name)} holds numbers that are not finite")
    for name, value in found.items():
        own[name].data.copy_(value)


def _saved(model: PromptModel) -> dict[str, Tensor]:
    """The parameters and buffers themselves, by name."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if name != EXTRA}


def pick(tensors: Mapping[str, Any], name: str) -> Any:
    """``tensors[name]``, or of "name[i]" the i-th row; None where there is none."""
    key, _, row = name.partition("[")
    value = tensors.get(key)
    if not row or value is None:
        return value
    index = int(row.rstrip("]"))
    return value[index] if index < len(value) else None


def _listed(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _called(model: PromptModel) -> str:
    return model.about.get("trainer", type(model).__name__)


def _compare(here: Mapping[str, Any], there: Mapping[str, Any], source: str) -> None:
    for key, what, shown in (("trainer",) * 3, ("backbone_hash", "backbone", "backbone"), ("classes",) * 3):
        if key in here and key in there and here[key] != there[key]:
            raise WrongInput(
                f"{source} was written with {what} {there[shown]!r}, this run has {what} {here[shown]!r}"
            )
    # What is learned for each class belongs to that class; checkpoints of older versions know only how many there are.
    if "classes" in here and "classes" in there and "class_names" in there:
        for number, (theirs, ours) in enumerate(zip(there["class_names"], here["class_names"])):
            if theirs != ours:
                raise WrongInput(
                    f"{source} was written for other classes, and what it holds is learned for each: class {number} is "
                    f"{theirs!r} there, {ours!r} in this run"
                )


#: What released checkpoints hold beside the prompts: CLIP itself, and class-specific buffers.
_FROZEN = re.compile(
    r"(.*\.)?(token_prefix|token_suffix|logit_scale|token_embedding\.weight)$|(image|text)_encoder\."
)
#: ... but learnable prompts have their place within CLIP in some releases.
_LEARNED = re.compile(r".*(VPT|visual_ctx)")


def _is_ignored(name: str, model: PromptModel) -> bool:
    frozen = _FROZEN.match(name) is not None and _LEARNED.match(name) is None
    return frozen or name.startswith(model.released_unused)
