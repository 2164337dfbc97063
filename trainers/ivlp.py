"""IVLP: independent vision-language prompting (baseline of MaPLe, Khattak et al., CVPR 2023, section 4.2).

Free prompts in both towers, each down to its own depth, with nothing between them.
"""

from yacs.config import CfgNode

from clip import CLIP, NONE, Changes
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .text_context import TextContext
from .visual_prompts import FreeVisualPrompts, vpt_names


class IVLPModel(PromptModel):
    """n_t context tokens down to block D_t of the text tower, n_v visual ones down to block D_v; D_v = 0: none."""

    section = "IVLP"

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER[self.section]
        self.context = TextContext(
            clip, classnames, options.N_CTX_TEXT, init=options.CTX_INIT, depth=options.PROMPT_DEPTH_TEXT
        )
        if options.PROMPT_DEPTH_VISION > 0:
            self.visual = FreeVisualPrompts(clip, options.N_CTX_VISION, options.PROMPT_DEPTH_VISION)
        self.released = {
            "context.ctx": "prompt_learner.ctx",
            **vpt_names("context.deep", "text_encoder", options.PROMPT_DEPTH_TEXT),
            "visual.shallow": "image_encoder.VPT",
            **vpt_names("visual.deep", "image_encoder", options.PROMPT_DEPTH_VISION),
        }

    def image_changes(self) -> Changes:
        return self.visual() if hasattr(self, "visual") else NONE


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    model_class = IVLPModel
    model_name = "VLPromptLearner"
    section = "IVLP"
    keys = {
        "N_CTX_VISION": Key(2, "n_v, visual tokens", at_least(0)),
        "N_CTX_TEXT": Key(2, "n_t, context tokens", at_least(1)),
        "CTX_INIT": Key("a photo of a", "the text context starts from its first words"),
        "PREC": PREC,
        "PROMPT_DEPTH_VISION": Key(9, "D_v, 0 for no visual prompts", at_least(0)),
        "PROMPT_DEPTH_TEXT": Key(9, "D_t", at_least(1)),
    }
