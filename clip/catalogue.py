"""What a backbone's name stands for."""

from typing import Any, NamedTuple

from open_clip import get_model_config
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.factory import list_models
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

#: The field's names -> open_clip's. All of them are OpenAI's weights, trained with QuickGELU.
OPENAI = {
    "RN50": "RN50-quickgelu",
    "RN101": "RN101-quickgelu",
    "RN50x4": "RN50x4-quickgelu",
    "RN50x16": "RN50x16-quickgelu",
    "RN50x64": "RN50x64-quickgelu",
    "ViT-B/32": "ViT-B-32-quickgelu",
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-L/14": "ViT-L-14-quickgelu",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu",
}

HOW_TO_NAME = (
    f"{', '.join(OPENAI)} (OpenAI), mini (bundled), an open_clip model with its tag such as "
    "ViT-B-32:laion2b_s34b_b79k or with a file, hf-hub:owner/name, or a file"
)

VOCABULARY = 49408  #: entries of CLIP's own tokenizer


class Preprocess(NamedTuple):
    """What images went through when a model was trained; values are those of pixels in [0, 1]."""

    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"  #: "squash": to the size, whatever the image's shape

    @classmethod
    def of(cls, model: Any) -> "Preprocess":
        """Of a model that open_clip has loaded, which knows it."""
        known = model.visual.preprocess_cfg
        return cls(tuple(known["mean"]), tuple(known["std"]), known["interpolation"], known["resize_mode"])


class Pretrained(NamedTuple):
    """An open_clip model and the tag of its weights."""

    model: str
    tag: str


def look_up(name: str) -> Pretrained:
    """Resolve a name to an open_clip model and tag.

    Raises:
        ValueError: no such model or tag (what exists is listed), the weights were trained with another activation
            function than the model has, or the model reads another tokenizer's ids.
    """
    if name in OPENAI:
        return Pretrained(OPENAI[name], "openai")
    model, _, tag = name.partition(":")
    if model not in list_models():
        raise ValueError(f"backbone {name!r} is unknown, choose from: {HOW_TO_NAME}")
    tags = list_pretrained_tags_by_model(model)
    if tag not in tags:
        known = ", ".join(tags) or "none, it has no published weights"
        raise ValueError(
            f"backbone {model!r} needs the tag of its weights ({model}:TAG), choose from: {known}"
        )
    weights_quick = bool(get_pretrained_cfg(model, tag).get("quick_gelu", False))
    model_quick = model.endswith("-quickgelu")
    if weights_quick != model_quick:
        right = f"{model}-quickgelu" if weights_quick else model.removesuffix("-quickgelu")
        raise ValueError(
            f"weights {tag!r} do not fit the activation function of {model!r}, use {right}:{tag}"
        )
    check_tokenizer(get_model_config(model)["text_cfg"], name)
    return Pretrained(model, tag)


def check_tokenizer(text: dict[str, Any], name: str) -> None:
    """Raise ValueError unless a model of this text part reads ids of CLIP's own tokenizer.

    Args:
        text: ``text_cfg`` of its open_clip config.
        name: of the backbone, for the message.
    """
    other = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    vocabulary = text.get("vocab_size", VOCABULARY)
    if not other and text.get("tokenizer_kwargs"):
        other = f"CLIP's with {text['tokenizer_kwargs']}"
    if not other and vocabulary != VOCABULARY:
        other = f"one of {vocabulary:,} entries"
    if other:
        raise ValueError(
            f"backbone {name!r} reads another tokenizer ({other}) than CLIP's, the only one here: choose a model "
            f"with CLIP's, such as {', '.join(list(OPENAI)[-4:-1])}"
        )
