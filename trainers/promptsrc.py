"""PromptSRC: self-regulating prompts (Khattak et al., ICCV 2023).

IVLP's prompts, regulated three times: text and image features and logits stay close to those of frozen CLIP (mutual
agreement, eq. 3-5), the frozen text features are averaged over sixty templates (textual diversity), and the final
prompts are a Gaussian-weighted average of those of all epochs (self-ensembling, eq. 6).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, above, at_least

from .ivlp import IVLP, IVLPModel
from .templates import PROMPTSRC
from .unit import unit


class PromptSRCModel(IVLPModel):
    """IVLP's prompts, and frozen CLIP as the teacher."""

    section = "PROMPTSRC"
    zeroshot_guides = True
    released_unused = ("prompt_learner.ZS_image_encoder.",)

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.PROMPTSRC
        self.text_weight, self.image_weight = options.TEXT_LOSS_WEIGHT, options.IMAGE_LOSS_WEIGHT
        self.frozen_texts = self.zeroshot_texts(PROMPTSRC, unit_each=False)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        texts, features = self.encode_texts(), self.encode_images(images)
        frozen_texts = self.of_classes(self.frozen_texts)
        frozen = self.clip.image(images).summary[:, 0]
        logits = self.scaled_cosines(features, texts)
        teacher = F.log_softmax(self.scaled_cosines(frozen, frozen_texts), dim=-1)
        divergence = F.kl_div(F.log_softmax(logits, dim=-1), teacher, reduction="sum", log_target=True)
        loss = (
            F.cross_entropy(logits, labels)
            + self.text_weight * F.l1_loss(unit(texts), frozen_texts)
            + self.image_weight * F.l1_loss(unit(features), unit(frozen))
            + divergence / logits.numel()
        )
        return loss, logits


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """The running average belongs to the trainer's state: a resumed run continues it."""

    model_class = PromptSRCModel
    section = "PROMPTSRC"
    keys = IVLP.keys | {
        "N_CTX_VISION": Key(4, "n_v, visual tokens", at_least(0)),
        "N_CTX_TEXT": Key(4, "n_t, context tokens", at_least(1)),
        "TEXT_LOSS_WEIGHT": Key(25.0, "of the distance to the frozen text features", at_least(0)),
        "IMAGE_LOSS_WEIGHT": Key(10.0, "of the distance to the frozen image features", at_least(0)),
        "GPA_MEAN": Key(15.0, "epoch with the largest weight in the average"),
        "GPA_STD": Key(1.0, "of the weights, in epochs", above(0)),
    }

    def build_model(self) -> None:
        super().build_model()
        options = self.cfg.TRAINER.PROMPTSRC
        self.weights = gaussian_weights(self.max_epoch, options.GPA_MEAN, options.GPA_STD)
        self.average = {name: torch.zeros_like(value) for name, value in self.model.named_parameters()}

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        summary = super().forward_backward(batch)
        if self.batch_idx + 1 == self.num_batches:
            self.aggregate()
        return summary

    @torch.no_grad()
    def aggregate(self) -> None:
        """Add the epoch's prompts to the average; after the last epoch the average becomes the prompts."""
        for name, value in self.model.named_parameters():
            self.average[name] += self.weights[self.epoch] * value
            if self.epoch + 1 == self.max_epoch:
                value.copy_(self.average[name])

    def get_extra_state(self) -> dict[str, Any]:
        return {"average": self.average}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.average = {name: state["average"][name].to(value) for name, value in self.average.items()}


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of epochs 1 .. ``epochs``, exp(-(e - mean)^2 / (2 std^2)), that sum to one.

    Raises:
        ValueError: the peak lies so far from all epochs that every weight vanishes.
    """
    weights = [math.exp(-((epoch - mean) ** 2) / (2 * std**2)) for epoch in range(1, epochs + 1)]
    if not sum(weights) > 0:
        raise ValueError(
            f"TRAINER.PROMPTSRC.GPA_MEAN {mean} with GPA_STD {std} gives none of {epochs} epochs a weight"
        )
    return [weight / sum(weights) for weight in weights]
