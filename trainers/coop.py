"""CoOp: learning to prompt (Zhou et al., IJCV 2022).

The class text "a photo of a <class>." becomes "[V]_1 ... [V]_n <class>." with n learned vectors (eq. 2), one context
for all classes or one for each. The image side stays as it is; the loss is cross-entropy on scaled cosines (eq. 1).
"""

import torch
from torch import Tensor
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .prompt_model import PromptModel
from .text_context import TextContext


class CoOpModel(PromptModel):
    """n context tokens in the text (n, w), or class-specific (C, n, w)."""

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.COOP
        n_ctx = len(options.CTX_INIT.replace("_", " ").split()) or options.N_CTX
        self.context = TextContext(
            clip,
            classnames,
            n_ctx,
            init=options.CTX_INIT,
            class_specific=options.CSC,
            position=options.CLASS_TOKEN_POSITION,
        )

    def encode_texts(self) -> Tensor:
        return self.clip.text(self.context()).summary[:, 0]

    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.clip.image(images).summary[:, 0]
        return self.scaled_cosines(features, texts)

    def released_names(self) -> dict[str, str]:
        return {"context.ctx": "ctx"}


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    model_class = CoOpModel
    section = "COOP"

    @staticmethod
    def extend_cfg(cfg: CfgNode) -> None:
        cfg.TRAINER.COOP = CfgNode()
        cfg.TRAINER.COOP.N_CTX = 16  # number of context tokens
        cfg.TRAINER.COOP.CSC = False  # class-specific context
        cfg.TRAINER.COOP.CTX_INIT = ""  # initial words; they decide the number of tokens
        cfg.TRAINER.COOP.PREC = "fp16"  # one of clip.PRECISIONS
        cfg.TRAINER.COOP.CLASS_TOKEN_POSITION = "end"  # end, middle or front
