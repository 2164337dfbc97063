"""Class texts of zero-shot CLIP: a baseline, and the reference that several methods stay close to."""

import torch
from torch import Tensor

from clip import CLIP

from .prompt_model import unit

#: The seven of CLIP's ImageNet templates that its authors selected (notebook of the CLIP repository).
SELECTED_TEMPLATES = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]


@torch.no_grad()
def zeroshot_texts(clip: CLIP, classnames: list[str], templates: list[str]) -> Tensor:
    """(C, d) unit text features; over several templates the mean of the unit features, scaled to unit norm again."""
    names = [name.replace("_", " ") for name in classnames]
    features = [unit(clip.text.encode([template.format(name) for name in names])) for template in templates]
    return unit(torch.stack(features).mean(dim=0))
