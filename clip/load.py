"""From a backbone's name to a frozen CLIP."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import open_clip
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.factory import list_models
from open_clip.model import build_model_from_openai_state_dict, convert_to_custom_text_state_dict
from torch import Tensor, nn

from .archive import read_weights
from .catalogue import HOW_TO_NAME, Preprocess, check_tokenizer, look_up
from .model import CLIP

MINI = Path(__file__).parent / "mini"


def load(name: str, precision: str = "fp32") -> CLIP:
    """Load a CLIP on the CPU, frozen.

    Args:
        name: "ViT-B/16", "ViT-B/32", "ViT-L/14", "RN50", "RN101", ... (OpenAI's weights); "mini" (bundled); an
            open_clip model with the tag of its weights, "ViT-B-32:laion2b_s34b_b79k", or with a file of them,
            "ViT-B-32:weights.pt"; "hf-hub:owner/name"; a file (OpenAI's archive); "quickgelu:FILE" or "gelu:FILE", a
            state dict in OpenAI's key format as .pt or .safetensors, with its activation function, which it does not
            say itself.
        precision: one of ``PRECISIONS``: what the weights are cast to, once (norms stay fp32).

    Raises:
        ValueError: unknown name or tag, unreadable weights, weights that are not finite, an activation that does not
            match or is not known, another tokenizer than CLIP's.
        FileNotFoundError: no such file.
        OSError: weights could not be fetched; says what to fetch and where to put it.
    """
    kind, _, rest = name.partition(":")
    preprocess: Preprocess | None = Preprocess()
    by_word = False  # whether the user has said the activation function
    if name == "mini":
        model = load_mini()
    elif kind == "hf-hub":
        model = _fetch(name, None, asked_for=name)
        preprocess = Preprocess.of(model)
    elif (kind in list_models() or kind in ACTIVATIONS) and _looks_like_a_file(rest):
        weights, preprocess = read_weights(Path(rest).expanduser()), None
        if kind in ACTIVATIONS:
            model = from_openai_state_dict(weights, name, quick_gelu=kind == "quickgelu")
        else:
            model = _from_open_clips_state_dict(weights, kind, name)
        by_word = True
    elif _looks_like_a_file(name):
        weights = read_weights(Path(name).expanduser())
        model = from_openai_state_dict(weights, name)  # OpenAI's archive: all of these have QuickGELU
        if not weights.keys() >= set(_SIZES):
            raise ValueError(
                f"weights file {name!r} does not say its activation function: set MODEL.BACKBONE.NAME to "
                f"quickgelu:{name} (OpenAI's weights, and others trained with QuickGELU), gelu:{name}, or MODEL:{name} "
                "with the open_clip model that it is of, such as ViT-B-32"
            )
    else:
        model = _fetch(*look_up(name), asked_for=name)
        preprocess = Preprocess.of(model)
    _check_finite(model, name)
    activation = activation_of(model)  # before the towers are cast, which may exchange it
    towers = CLIP(model, name, precision)
    towers.activation, towers.preprocess = activation, preprocess
    if by_word and towers.activation != "QuickGELU":  # the same weights with QuickGELU are another model
        towers.hash = hashlib.sha256(f"{towers.hash} GELU".encode()).hexdigest()[:16]
    return towers


#: How a file's activation function is said.
ACTIVATIONS = ("quickgelu", "gelu")


def from_openai_state_dict(weights: dict[str, Tensor], name: str, quick_gelu: bool = True) -> nn.Module:
    """open_clip model for a state dict in OpenAI's key format, fp32; its sizes are read off the tensors.

    Heads are taken to be 64 wide, which the tensors do not say.

    Raises:
        ValueError: it is no such state dict, or of a size that open_clip's models have with other heads.
    """
    weights = {key: value for key, value in weights.items() if key not in _SIZES}
    _check_heads(weights, name)
    try:
        model = build_model_from_openai_state_dict(
            dict(weights), quick_gelu=quick_gelu, cast_dtype=torch.float32
        ).float()
        model.load_state_dict(weights)  # once more: the builder rounds them to half precision
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name!r} is not a CLIP state dict in OpenAI's key format: {reason}") from error
    return model


def _from_open_clips_state_dict(weights: dict[str, Tensor], model: str, name: str) -> nn.Module:
    """A model that open_clip knows by name, with weights from a file, fp32."""
    config = open_clip.get_model_config(model)
    check_tokenizer(config["text_cfg"], name)
    built = open_clip.create_model(model, pretrained=None)
    weights = {key: value for key, value in weights.items() if key not in _SIZES}
    if config.get("custom_text"):
        weights = convert_to_custom_text_state_dict(weights)
    try:
        built.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise ValueError(f"{name!r}: the file does not hold weights of {model}: {lines[0]}") from error
    return built


def activation_of(model: Any) -> str:
    """The name of the activation function of the text tower's blocks, "QuickGELU" or "GELU"; "" if it is no CLIP's."""
    blocks = getattr(getattr(getattr(model, "text", model), "transformer", None), "resblocks", None)
    return type(blocks[0].mlp.gelu).__name__ if blocks else ""


def _check_heads(weights: dict[str, Tensor], name: str) -> None:
    conv = weights.get("visual.conv1.weight")
    if conv is None or conv.dim() != 4 or "visual.proj" not in weights:
        return
    others = []
    for model in list_models():
        config = open_clip.get_model_config(model)
        vision, text = config["vision_cfg"], config["text_cfg"]
        same = vision.get("width", 768) == len(conv) and "hf_tokenizer_name" not in text
        if same and vision.get("head_width", 64) != 64:
            others.append(model)
    if others:
        file = name.partition(":")[2] or name
        raise ValueError(
            f"weights file {name!r} is of a width ({len(conv)}) that models have with heads of other widths: set "
            f"MODEL.BACKBONE.NAME to MODEL:{file} with the open_clip model that it is of, one of {', '.join(others)}"
        )


def _check_finite(model: nn.Module, name: str) -> None:
    for tensor_name, value in model.state_dict().items():
        if tensor_name.endswith("attn_mask"):  # that of causal attention is minus infinity by design
            continue
        # A number that is not finite makes the sum so, too, which is quick; but a sum can also overflow.
        if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
            raise ValueError(f"backbone {name!r}: the weights {tensor_name} hold numbers that are not finite")


def hub_config(repository: str, name: str) -> dict[str, Any]:
    """The model part of a hub model's config."""
    try:
        path = hf_hub_download(repository, "open_clip_config.json")
        return json.loads(Path(path).read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, LookupError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"config of {name!r} could not be read: {reason}") from error


#: Entries of OpenAI's archives that are no weights.
_SIZES = ("input_resolution", "context_length", "vocab_size")


def _looks_like_a_file(name: str) -> bool:
    return name.endswith((".pt", ".pth", ".bin", ".safetensors")) or Path(name).expanduser().is_file()


def load_mini() -> nn.Module:
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
    if not _is_cached(repository) and not is_reachable(constants.ENDPOINT):
        raise OSError(
            f"weights of {asked_for!r} are not cached and {constants.ENDPOINT} cannot be reached; {how}"
        )
    if tag is None:
        check_tokenizer(hub_config(repository, asked_for)["text_cfg"], asked_for)
    try:
        return open_clip.create_model(model, pretrained=tag, require_pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"weights of {asked_for!r} could not be loaded: {reason}; {how}") from error


def _is_cached(repository: str) -> bool:
    names = (HF_WEIGHTS_NAME, HF_SAFE_WEIGHTS_NAME)
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)


def is_reachable(address: str) -> bool:
    """Ask once and briefly, through the proxy if there is one; the hub's own client retries for minutes."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=10).close()
    except HTTPError:  # an answer
        return True
    except OSError:
        return False
    return True


__all__ = ["HOW_TO_NAME", "from_openai_state_dict", "load"]
