"""MaPLe: multi-modal prompt learning (Khattak et al., CVPR 2023).

Context tokens in the text tower, new ones down to block D (eq. 3-4); the image tower's prompts of every layer are a
linear map of the text tower's (section 3.2.3, the coupling function).
"""

from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer, section
from .prompt_model import PromptModel, Prompts
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

    def visual_prompts(self) -> Prompts:
        return self.projection(self.context.ctx, self.context.deep_prompts())


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    model_class = MaPLeModel
    model_name = "MultiModalPromptLearner"
    section = "MAPLE"

    @staticmethod
    def extend_cfg(cfg: CfgNode) -> None:
        options = section(cfg, "MAPLE")
        options.N_CTX = 2  # number of context tokens
        options.CTX_INIT = "a photo of a"  # the context starts from its first words
        options.PREC = "fp16"  # fp32, fp16, amp or bf16
        options.PROMPT_DEPTH = 9  # D, 1 for shallow prompts only
