"""From a backbone's name to a frozen CLIP."""

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import open_clip
import torch
from huggingface_hub import constants, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.model import build_model_from_openai_state_dict
from torch import Tensor, nn

from .archive import read_weights
from .catalogue import HOW_TO_NAME, look_up
from .model import CLIP

MINI = Path(__file__).parent / "mini"


def load(name: str, precision: str = "fp32") -> CLIP:
    """Load a CLIP on the CPU, frozen.

    Args:
        name: "ViT-B/16", "ViT-B/32", "ViT-L/14", "RN50", "RN101", ... (OpenAI's weights); "mini" (bundled); an
            open_clip model with the tag of its weights, "ViT-B-32:laion2b_s34b_b79k"; "hf-hub:owner/name"; a file
            (OpenAI's archive, or a state dict in its key format as .pt or .safetensors).
        precision: one of ``PRECISIONS``: what the weights are cast to, once (norms stay fp32).

    Raises:
        ValueError: unknown name or tag, unreadable weights, an activation that does not match.
        FileNotFoundError: no such file.
        OSError: weights could not be fetched; says what to fetch and where to put it.
    """
    if name == "mini":
        model = _load_mini()
    elif name.startswith("hf-hub:"):
        model = _fetch(name, None, asked_for=name)
    elif _looks_like_a_file(name):
        model = from_openai_state_dict(read_weights(Path(name).expanduser()), name)
    else:
        model = _fetch(*look_up(name), asked_for=name)
    return CLIP(model, name, precision)


def from_openai_state_dict(weights: dict[str, Tensor], name: str) -> nn.Module:
    """open_clip model for a state dict in OpenAI's key format, fp32; its sizes are read off the tensors."""
    weights = {key: value for key, value in weights.items() if key not in _SIZES}
    try:
        model = build_model_from_openai_state_dict(dict(weights), cast_dtype=torch.float32).float()
        model.load_state_dict(weights)  # once more: the builder rounds them to half precision
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name!r} is not a CLIP state dict in OpenAI's key format: {reason}") from error
    return model


#: Entries of OpenAI's archives that are no weights.
_SIZES = ("input_resolution", "context_length", "vocab_size")


def _looks_like_a_file(name: str) -> bool:
    return name.endswith((".pt", ".pth", ".bin", ".safetensors")) or Path(name).expanduser().is_file()


def _load_mini() -> nn.Module:
    """The bundled model. Its token table is stored without the rows that training never saw; these are drawn anew."""
    config = json.loads((MINI / "mini.json").read_text())
    weights = {key: value.float() for key, value in read_weights(MINI / "mini.safetensors").items()}
    text = config["text_cfg"]
    table = torch.randn(text["vocab_size"], text["width"], generator=torch.Generator().manual_seed(0)) * 0.02
    table[weights.pop("token_embedding.ids").long()] = weights.pop("token_embedding.rows")
    model = open_clip.CLIP(**config)
    model.load_state_dict({**weights, "token_embedding.weight": table})
    return model


def _fetch(model: str, tag: str | None, asked_for: str) -> nn.Module:
    """A published model through open_clip, which caches downloads and checks their hashes."""
    source = (
        open_clip.get_pretrained_cfg(model, tag).get("hf_hub", "") if tag else model.removeprefix("hf-hub:")
    )
    repository = (
        source.rstrip("/") if source.count("/") == 1 or source.endswith("/") else source.rpartition("/")[0]
    )
    how = (
        f"on a machine with a network fetch {HF_WEIGHTS_NAME} of {constants.ENDPOINT}/{repository} and copy "
        f"{constants.HF_HUB_CACHE} here, or set MODEL.BACKBONE.NAME to a weights file in OpenAI's key format"
    )
    if not _is_cached(repository) and not _is_reachable(constants.ENDPOINT):
        raise OSError(
            f"weights of {asked_for!r} are not cached and {constants.ENDPOINT} cannot be reached; {how}"
        )
    try:
        return open_clip.create_model(model, pretrained=tag, require_pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"weights of {asked_for!r} could not be loaded: {reason}; {how}") from error


def _is_cached(repository: str) -> bool:
    names = (HF_WEIGHTS_NAME, HF_SAFE_WEIGHTS_NAME)
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)


def _is_reachable(address: str) -> bool:
    """Ask once and briefly, through the proxy if there is one; the hub's own client retries for minutes."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=10).close()
    except HTTPError:  # an answer
        return True
    except OSError:
        return False
    return True


__all__ = ["HOW_TO_NAME", "from_openai_state_dict", "load"]
