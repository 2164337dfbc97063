"""Class texts of zero-shot CLIP: a baseline, and the reference that several methods stay close to."""

import torch
from torch import Tensor

from clip import CLIP

from . import processes
from .prompt_model import unit

CHUNK = 1024  #: texts that are encoded at once


@torch.no_grad()
def zeroshot_texts(clip: CLIP, classnames: list[str], templates: list[str], unit_each: bool = True) -> Tensor:
    """(C, d) unit text features; over several templates the mean of the features, scaled to unit norm.

    Args:
        unit_each: scale every template's feature to unit norm before the mean (CLIP's authors do, PromptSRC does not).
    """
    names = [name.replace("_", " ") for name in classnames]
    if len(names) < processes.count():
        return _encoded(clip, names, templates, unit_each)
    own = processes.share(len(names))
    return processes.gather(_encoded(clip, names[own.start : own.stop], templates, unit_each), len(names))


def _encoded(clip: CLIP, names: list[str], templates: list[str], unit_each: bool) -> Tensor:
    """In one process, in chunks."""
    chunks = []
    for start in range(0, len(names), CHUNK):
        total = torch.zeros(())
        for template in templates:
            texts = [template.format(name) for name in names[start : start + CHUNK]]
            feature = clip.text.encode(texts).float()
            total = total.to(feature) + (unit(feature) if unit_each else feature)
        chunks.append(unit(total / len(templates)))
    return torch.cat(chunks)
