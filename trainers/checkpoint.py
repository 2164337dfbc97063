"""Checkpoints of learnable parameters: ours, and those that the methods' releases wrote."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .prompt_model import PromptModel

EXTRA = "_extra_state"  #: torch's key for PromptModel.get_extra_state


def find_checkpoint(directory: str | Path, model_name: str, epoch: int | None) -> Path:
    """``<directory>/<model name>/model.pth.tar-<epoch>``; without an epoch the best one, else the newest.

    Raises:
        FileNotFoundError: names the file and lists what is there.
    """
    folder = Path(directory) / model_name
    epochs = sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("model.pth.tar-*[0-9]"))
    best = folder / "model-best.pth.tar"
    if epoch is None and best.is_file():
        return best
    if epoch is None and epochs:
        epoch = epochs[-1]
    path = best if epoch is None else folder / f"model.pth.tar-{epoch}"
    if not path.is_file():
        there = (
            f"epochs there: {', '.join(map(str, epochs))}" if epochs else _folders(Path(directory), folder)
        )
        raise FileNotFoundError(f"checkpoint {str(path)!r} does not exist; {there}")
    return path


def _folders(directory: Path, folder: Path) -> str:
    if not directory.is_dir():
        return f"{str(directory)!r} is no folder"
    others = sorted(path.parent.name for path in directory.glob("*/model*.pth.tar*"))
    found = (
        f"there are checkpoints of: {', '.join(sorted(set(others)))}"
        if others
        else "no checkpoints are there"
    )
    return f"no checkpoint in {str(folder)!r}, {found}"


def load_learned(model: PromptModel, state: Mapping[str, Any], source: str) -> None:
    """Set the learnable parameters from a state dict, ours or a release's.

    A release's state dict also holds all of CLIP and class-specific buffers; these are ignored, the class texts are
    rebuilt for the classes at hand.

    Raises:
        ValueError: another method, backbone or number of classes wrote it (both are named), a parameter is missing,
            or there is one that this method does not have.
    """
    own = dict(model.named_parameters())
    if EXTRA in state:
        _compare(model.about, state[EXTRA], source)
        found = {name: value for name, value in state.items() if name != EXTRA}
    else:
        names = {released: ours for ours, released in model.released_names().items()}
        found = {names.get(name, name): value for name, value in state.items() if not _is_frozen(name, names)}
    missing, unexpected = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    if missing or unexpected:
        said = [f"lacks {', '.join(missing)}"] if missing else []
        said += [f"holds {', '.join(unexpected)}, unknown here"] if unexpected else []
        raise ValueError(
            f"{source} is no checkpoint of this method with these settings: it {' and '.join(said)}"
        )
    for name, parameter in own.items():
        if parameter.shape != found[name].shape:
            raise ValueError(
                f"{source}: {name} has shape {tuple(found[name].shape)}, here it is {tuple(parameter.shape)}: it comes "
                f"from another backbone, number of classes or context length than {model.about}"
            )
    for name, parameter in own.items():
        parameter.data.copy_(found[name])


def _compare(here: dict[str, Any], there: dict[str, Any], source: str) -> None:
    for key in ("trainer", "backbone_hash", "classes"):
        if key in here and key in there and here[key] != there[key]:
            what, name = ("backbone", "backbone") if key == "backbone_hash" else (key, key)
            raise ValueError(
                f"{source} was written with {what} {there.get(name)!r}, this run has {what} {here.get(name)!r}"
            )


#: What released checkpoints hold beside the prompts: CLIP itself and class-specific buffers.
_FROZEN = re.compile(
    r"(.*\.)?(token_prefix|token_suffix|logit_scale|token_embedding\.weight)$|(image_encoder|text_encoder|clip)\."
)


def _is_frozen(name: str, released: Mapping[str, str]) -> bool:
    return name not in released and _FROZEN.match(name) is not None
