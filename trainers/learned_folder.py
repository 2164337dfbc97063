"""What is learned, as a folder that can be published: ``model.safetensors`` beside the run's settings, config.json.

Such a folder, or its name on the Hugging Face hub, ``hf-hub:owner/name``, stands wherever a checkpoint may.
"""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from clip.load import is_reachable
from foundation.errors import WrongInput
from foundation.written_texts import KEPT

from .prompt_model import PromptModel

HUB = "hf-hub:"
WEIGHTS, SETTINGS = "model.safetensors", "config.json"
TEXTS = KEPT  #: where the user has given some that the method scores with
ABOUT = "about"  #: of the file's metadata: what PromptModel.about says, as JSON


def learned_bytes(model: PromptModel) -> bytes:
    """What a checkpoint of the model holds, its learnable parameters before all, as a safetensors file."""
    saved = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return save(
        {name: value.cpu().contiguous() for name, value in saved.items()}, {ABOUT: json.dumps(model.about)}
    )


def read_learned(path: Path, extra: str) -> dict[str, Any]:
    """The state dict in such a file, with what the model says of itself as its entry ``extra``.

    Raises:
        ValueError: it is damaged, or no safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = (file.metadata() or {}).get(ABOUT)
        return state if about is None else state | {extra: json.loads(about)}
    except (SafetensorError, OSError, ValueError) as error:
        raise WrongInput(f"{str(path)!r} is damaged, or no safetensors file: {error}") from error


def local_folder(name: str) -> Path:
    """The folder of that name; one of the hub is fetched, unless it was before.

    Raises:
        OSError: it cannot be fetched.
    """
    if not name.startswith(HUB):
        return Path(name).expanduser()
    repository, files = name.removeprefix(HUB), [WEIGHTS, SETTINGS, TEXTS]
    try:
        return Path(snapshot_download(repository, allow_patterns=files, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        raise WrongInput(f"{name!r} is no name on the hub, {HUB}owner/name is needed") from error
    if not is_reachable(constants.ENDPOINT):
        raise OSError(
            f"{name!r} is not cached and {constants.ENDPOINT} cannot be reached: give a folder instead"
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=files))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(f"{name!r} could not be fetched: {reason}") from error
