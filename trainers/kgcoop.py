"""KgCoOp: prompt tuning guided by knowledge (Yao et al., CVPR 2023).

CoOp, and a term that holds the learned class texts close to those of zero-shot CLIP (eq. 3-5):
L = CE + W (1 - mean_c cos(t_c, t0_c)).
"""

from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least

from .base import PromptTrainer
from .coop import CoOp, CoOpModel
from .near_zeroshot import NearZeroshotModel
from .release import Release

WORDS = "a photo of a"


class KgCoOpModel(NearZeroshotModel, CoOpModel):
    """CoOp's context, from the words "a photo of a"; CTX_INIT may give others."""

    zeroshot_guides = True
    released_unused = ("bias_vectors", "meta_net")

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.weight = cfg.TRAINER.COOP.W
        if cfg.DATASET.NAME == "DescribableTextures":  # as in the release
            template = "a photo of a {}, a type of texture."
        self.zeroshot = self.zeroshot_texts([template])

    def initial_words(self, options: CfgNode) -> str:
        given = super().initial_words(options)
        if given == "False":  # the release's key is a switch; off, the context is Gaussian
            return ""
        return WORDS if given in ("", "True") else given


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTrainer):
    model_class = KgCoOpModel
    section = "COOP"
    keys = CoOp.keys | {"W": Key(8.0, "weight of the distance to zero-shot CLIP", at_least(0))}
    released_as = {"KgCoOp": Release("COOP", settings={}, only={"CTX_INIT": True})}
