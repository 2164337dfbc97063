"""Class texts of zero-shot CLIP: a baseline, and the reference that several methods stay close to."""

import torch
from torch import Tensor

from clip import CLIP

from .prompt_model import unit


@torch.no_grad()
def zeroshot_texts(clip: CLIP, classnames: list[str], templates: list[str], unit_each: bool = True) -> Tensor:
    """(C, d) unit text features; over several templates the mean of the features, scaled to unit norm.

    Args:
        unit_each: scale every template's feature to unit norm before the mean (CLIP's authors do, PromptSRC does not).
    """
    names = [name.replace("_", " ") for name in classnames]
    features = [clip.text.encode([template.format(name) for name in names]).float() for template in templates]
    return unit(torch.stack([unit(feature) if unit_each else feature for feature in features]).mean(dim=0))
