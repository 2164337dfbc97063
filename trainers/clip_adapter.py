"""CLIP-Adapter: better vision-language models with feature adapters (Gao et al., IJCV 2024, arXiv 2110.04544).

A bottleneck of two layers A, each with a ReLU behind it, changes the image features x, and is mixed in:
r A(x) + (1 - r) x (eq. 4). As both layers end in a ReLU, what is added is never negative. Class texts stay those of
zero-shot CLIP, so what was learned on some classes serves others.

The paper's second adapter, of the texts, is in no released file and not here. The release has r and d / 4 as constants.
"""

from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, share

from .base import PREC
from .heads import PASSES, HeadModel, HeadTrainer
from .release import Release


class CLIPAdapterModel(HeadModel):
    """The adapter: d -> d / REDUCTION -> d, without biases."""

    released = {"fc": "fc"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.ratio = cfg.TRAINER.CLIPADAPTER.RATIO
        self.texts = self.zeroshot_texts([template])
        width = self.texts.shape[1]
        narrow = max(1, width // cfg.TRAINER.CLIPADAPTER.REDUCTION)
        self.fc = nn.Sequential(
            nn.Linear(width, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, width, bias=False), nn.ReLU()
        )

    def encode_texts(self) -> Tensor:
        return self.of_classes(self.texts)

    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.scaled_cosines(self.ratio * self.fc(images) + (1 - self.ratio) * images, texts)


@TRAINER_REGISTRY.register()
class CLIPAdapter(HeadTrainer):
    model_class = CLIPAdapterModel
    model_name = "clip_adapter"
    section = "CLIPADAPTER"
    keys = {
        "RATIO": Key(0.2, "r, share of the adapted features", share),
        "REDUCTION": Key(4, "how much narrower the bottleneck is", at_least(1)),
        "PASSES": PASSES,
        "PREC": PREC,
    }
    released_as = {"CLIP_Adapter": Release("CLIPADAPTER", settings={"PASSES": 0}, only={})}
