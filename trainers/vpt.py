"""VPT: visual prompt tuning (Jia et al., ECCV 2022) of CLIP, as in MaPLe's comparison.

Free prompts in the image tower; the class texts are those of zero-shot CLIP.
"""

from torch import Tensor
from yacs.config import CfgNode

from clip import CLIP, Changes
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .visual_prompts import FreeVisualPrompts, vpt_names


class VPTModel(PromptModel):
    """n visual tokens down to block D."""

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.VPT
        self.visual = FreeVisualPrompts(clip, options.N_CTX_VISION, options.PROMPT_DEPTH_VISION)
        words = options.CTX_INIT.replace("_", " ")
        self.texts = self.zeroshot_texts([f"{words} {{}}."])
        self.released = {
            "visual.shallow": "image_encoder.VPT",
            **vpt_names("visual.deep", "image_encoder", options.PROMPT_DEPTH_VISION),
        }

    def image_changes(self) -> Changes:
        return self.visual()

    def encode_texts(self) -> Tensor:
        return self.of_classes(self.texts)


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    model_class = VPTModel
    section = "VPT"
    keys = {
        "N_CTX_VISION": Key(2, "number of visual tokens", at_least(1)),
        "CTX_INIT": Key("a photo of a", "words in front of the class name"),
        "PREC": PREC,
        "PROMPT_DEPTH_VISION": Key(1, "D, 1 for shallow prompts only", at_least(1)),
    }
