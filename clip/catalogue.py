"""What a backbone's name stands for."""

from typing import NamedTuple

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
    "ViT-B-32:laion2b_s34b_b79k, hf-hub:owner/name, or a file"
)


class Pretrained(NamedTuple):
    """An open_clip model and the tag of its weights."""

    model: str
    tag: str


def look_up(name: str) -> Pretrained:
    """Resolve a name to an open_clip model and tag.

    Raises:
        ValueError: no such model or tag (what exists is listed), or the weights were trained with another activation
            function than the model has.
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
    return Pretrained(model, tag)
