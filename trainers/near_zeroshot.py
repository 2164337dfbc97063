"""Class texts that are held near those of zero-shot CLIP, as KgCoOp and TCP hold theirs; MMRL's images, too."""

from torch import Tensor

from .prompt_model import PromptModel
from .unit import unit


def distance(features: Tensor, zeroshot: Tensor) -> Tensor:
    """1 - mean_n cos(f_n, f0_n) of features (N, d) and zero-shot CLIP's (N, d), which have unit norm."""
    return 1 - (unit(features) * zeroshot).sum(dim=-1).mean()


class NearZeroshotModel(PromptModel):
    """L = CE + w (1 - mean_c cos(t_c, t0_c)); a method sets ``weight`` and ``zeroshot`` (C, d), of unit norm."""

    weight: float
    zeroshot: Tensor

    def regularised(self, loss: Tensor, texts: Tensor) -> Tensor:
        return loss + self.weight * distance(texts, self.of_classes(self.zeroshot))
