"""MaPLe: multi-modal prompt learning (Khattak et al., CVPR 2023).

Context tokens in the text tower, new ones down to block D (eq. 3-4); the image tower's prompts of every layer are a
linear map of the text tower's (section 3.2.3, the coupling function).
"""

from yacs.config import CfgNode

from clip import CLIP, Changes
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .text_context import TextContext
from .visual_prompts import COUPLED_NAMES, Projection


class MaPLeModel(PromptModel):
    """Text prompts of n tokens and D layers, projected to the image tower."""

    released = COUPLED_NAMES

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.MAPLE
        depth, key = options.PROMPT_DEPTH, "PROMPT_DEPTH"
        self.context = TextContext(
            clip, classnames, options.N_CTX, init=options.CTX_INIT, depth=depth, depth_key=key
        )
        self.projection = Projection(clip, depth, key)

    def image_changes(self) -> Changes:
        return self.projection(self.context.ctx, self.context.deep_prompts())


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    model_class = MaPLeModel
    model_name = "MultiModalPromptLearner"
    section = "MAPLE"
    keys = {
        "N_CTX": Key(2, "number of context tokens", at_least(1)),
        "CTX_INIT": Key("a photo of a", "the context starts from its first words"),
        "PREC": PREC,
        "PROMPT_DEPTH": Key(9, "D, 1 for shallow prompts only", at_least(1)),
    }
