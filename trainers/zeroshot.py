"""Zero-shot CLIP (Radford et al., ICML 2021): the data set's own template, nothing learned."""

from typing import Any

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .prompt_model import PromptModel


class ZeroshotModel(PromptModel):
    """Scaled cosines between the image and "a photo of a <class>."."""

    def __init__(self, cfg: Any, clip: Any, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.texts = [template.format(name.replace("_", " ")) for name in classnames]

    @torch.no_grad()
    def encode_texts(self) -> Tensor:
        return self.clip.text.encode(self.texts)

    @torch.no_grad()
    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.scaled_cosines(self.clip.image(images).summary[:, 0], texts)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """There is nothing to train: a run evaluates."""

    model_class = ZeroshotModel

    def precision(self) -> str:
        return "fp32"

    def train(self) -> None:  # type: ignore[override]
        print("ZeroshotCLIP learns nothing, evaluating only")
        self.test()
