"""ProGrad: prompt-aligned gradient (Zhu et al., ICCV 2023).

CoOp, updated only in directions that do not contradict zero-shot CLIP (section 3.2): where the gradient of the
cross-entropy and that of the divergence from zero-shot CLIP's predictions form an obtuse angle, the former loses its
component along the latter.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY

from . import processes
from .base import PromptTrainer
from .coop import CoOp, CoOpModel
from .zeroshot_texts import zeroshot_texts


class ProGradModel(CoOpModel):
    """CoOp's context, and zero-shot CLIP as the teacher."""

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.temperature = cfg.LOSS.T
        self.zeroshot = zeroshot_texts(clip, classnames, [template])

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy, the divergence KL (up to the teacher's entropy), and logits (B, C)."""
        features, t = self.encode_images(images), self.temperature
        logits = self.scaled_cosines(features, self.encode_texts())
        teacher = F.softmax(self.scaled_cosines(features, self.of_classes(self.zeroshot)) / t, dim=-1)
        divergence = -(teacher * F.log_softmax(logits / t, dim=-1)).sum(dim=-1).mean() * t**2
        return F.cross_entropy(logits, labels), divergence, logits


@TRAINER_REGISTRY.register()
class ProGrad(PromptTrainer):
    model_class = ProGradModel
    section = "COOP"

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, labels = self.parse_batch_train(batch)
        with self.autocast():
            loss, divergence, logits = self.captured(self.model.losses, images, labels)
        part, summary = self.of_batch(logits, labels, loss=loss, loss_kl=divergence)
        parameters = list(self.model.parameters())
        scale = self.scaler.scale if self.scaler else (lambda value: value)
        fit = processes.add_up(torch.autograd.grad(scale(loss * part), parameters, retain_graph=True))
        keep = processes.add_up(
            torch.autograd.grad(scale(divergence * part), parameters)
        )  # its direction counts
        for parameter, g_fit, g_keep in zip(parameters, fit, keep):
            parameter.grad = aligned(g_fit, g_keep, self.cfg.LOSS.LAMBDA)
        self.model_update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    @staticmethod
    def extend_cfg(cfg: CfgNode) -> None:
        CoOp.extend_cfg(cfg)
        cfg.LOSS = CfgNode()
        cfg.LOSS.T = 1.0  # temperature of the divergence
        cfg.LOSS.LAMBDA = 1.0  # share of the opposing component that is taken away


def aligned(fit: Tensor, keep: Tensor, share: float) -> Tensor:
    """g - share (g . k) k with k the unit vector of ``keep``, where g . k < 0; else g = ``fit`` itself (eq. 4)."""
    direction = keep / keep.norm().clamp(min=1e-12)
    along = (fit * direction).sum()
    return fit - share * along.clamp(max=0) * direction
