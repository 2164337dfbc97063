"""CLIP-LoRA: low-rank few-shot adaptation of vision-language models (Zanella and Ben Ayed, CVPRW 2024).

Chosen attention matrices of both towers get additions of low rank (section 3, see lora). Everything else is zero-shot
CLIP with "a photo of a <class>." for all data sets, a temperature of 1 / 100, and cross-entropy.

In the text tower texts share their beginning, and so that has one dropout mask for all classes.

``VARIANT: release`` also reproduces what happens there without dropout: the gradient with respect to what enters an
adapted matrix is that of W alone. Nothing is held out: the last step's weights are tested.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from clip import CLIP, Changes
from dassl.engine import TRAINER_REGISTRY
from foundation.errors import WrongInput
from foundation.keys import Key, one_of

from . import lora
from .base import PREC, PromptTrainer
from .tuned_towers import ENCODERS, TunedTowerModel

SCALE = 100.0  #: a constant, not CLIP's own


class CLIPLoRAModel(TunedTowerModel):
    """Additions of rank r to attention matrices, of one tower or both."""

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        options = cfg.TRAINER.CLIPLORA
        super().__init__(cfg, clip, classnames, template, "ENCODER", options.ENCODER)
        self.options = options
        self.cut = options.VARIANT == "release"
        self.additions = lora.Additions(clip, self.towers, options)
        self.released = self.additions.released("additions")

    def text_changes(self) -> Changes:
        return Changes(weights=self.additions.weights("text", self.training, self.cut))

    def image_changes(self) -> Changes:
        return Changes(weights=self.additions.weights("vision", self.training, self.cut))

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The release's file has its weights by layers, and says with what settings they were learned."""
        layers, said = state.get("weights"), state.get("metadata")
        if not isinstance(layers, Mapping) or not isinstance(said, Mapping):
            return state
        for key in ("R", "ALPHA", "ENCODER", "PARAMS", "POSITION"):
            both = (self.options[key], said.get(key.lower(), self.options[key]))
            here, there = (sorted(value) if isinstance(value, (list, tuple)) else value for value in both)
            if here != there:
                raise WrongInput(
                    f"TRAINER.CLIPLORA.{key} is {here}, it was written with {key.lower()} {there}"
                )
        return self.additions.of_release(layers)

    def inverse_temperature(self) -> Tensor:
        return torch.full_like(self.clip.logit_scale, SCALE)


@TRAINER_REGISTRY.register()
class CLIPLoRA(PromptTrainer):
    model_class = CLIPLoRAModel
    model_name = "lora_weights"
    section = "CLIPLORA"
    keys = {
        "VARIANT": Key("paper", "release: its gradients without dropout", one_of("paper", "release")),
        "ENCODER": Key("both", "which towers are adapted", one_of(*ENCODERS)),
        **lora.KEYS,
        "PREC": PREC,
    }
