"""CLAP: a closer look at the few-shot adaptation of large vision-language models (Silva-Rodriguez et al., CVPR 2024).

A linear probe: a prototype for each class (C, d), started at CLIP's class text t, which is not normalised, and compared
by CLIP's scaled cosines. CLAP holds each near its text (eq. 8): CE + mean_c a_c |w_c - t_c|^2, where a_c is the mean
zero-shot probability of class c over the training images of class c, computed once: classes that CLIP knows well move
less. CONSTRAINT none is the plain probe, ZS-LP, with INIT RANDOM the probe from scratch.

``release``: class names enter the template with their underscores. It shuffles the features of all passes together,
where here an epoch has every image once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, one_of

from .base import PREC
from .heads import PASSES, VARIANT, HeadModel, HeadTrainer
from .release import Release


class CLAPModel(HeadModel):
    """Prototypes (C, d), their texts (C, d), and a (C,), which is set where training begins."""

    released = {"prototypes": "prototypes"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.ADAPTER
        self.base = self.base_texts([template], options.VARIANT)
        start = self.base.clone() if options.INIT == "ZS" else torch.empty_like(self.base)
        self.prototypes = nn.Parameter(start if options.INIT == "ZS" else nn.init.kaiming_normal_(start))
        self.held = options.CONSTRAINT == "l2"
        self.multipliers: Tensor | None = None
        self.fits_these_classes_only()

    def encode_texts(self) -> Tensor:
        return self.of_classes(self.prototypes)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = super().loss(images, labels)
        if self.multipliers is not None:
            moved = (self.prototypes - self.base).square().sum(dim=1)
            loss = loss + self.of_classes(self.multipliers * moved).mean()
        return loss, logits

    @torch.no_grad()
    def set_multipliers(self, images: Tensor, labels: Tensor) -> None:
        """From features (N, d) and labels (N,) of all training images; a class without any has 0."""
        probabilities = F.softmax(self.scaled_cosines(images, self.base), dim=-1)
        own = F.one_hot(labels, len(self.base)).to(probabilities)
        self.multipliers = (probabilities * own).sum(dim=0) / own.sum(dim=0).clamp(min=1)


@TRAINER_REGISTRY.register()
class CLAP(HeadTrainer):
    model_class = CLAPModel
    model_name = "adapter"
    section = "ADAPTER"
    keys = {
        "VARIANT": VARIANT,
        "INIT": Key(
            "ZS", "where prototypes start: at the zero-shot texts, or anywhere", one_of("ZS", "RANDOM")
        ),
        "CONSTRAINT": Key("l2", "l2: held near the texts; none: the plain probe", one_of("l2", "none")),
        "PASSES": PASSES,
        "PREC": PREC,
    }
    released_as = {"ADAPTER": Release("ADAPTER", settings={"VARIANT": "release", "PASSES": 0}, only={})}

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        if mode == "train" and self.model.held and self.model.multipliers is None:
            features, labels = self.views(max(1, self.passes()))
            everyone = labels.repeat(len(features)).to(self.device)
            self.model.set_multipliers(features.flatten(0, 1).to(self.device), everyone)
        super().set_model_mode(mode, names)
