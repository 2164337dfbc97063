"""MMRL++: parameter-efficient and interaction-aware representation learning (Guo and Gu, arXiv 2505.10088).

MMRL (see there) with fewer parameters: the projections into a tower share one weight, and each block has its own bias
and an addition of low rank (shared-residual representation aligner); the second image projection is CLIP's own and an
addition. From the second block on the new tokens are mixed with what those before have become:
beta new + (1 - beta) old (progressive representation composition).

beta and lambda are settings of the data set, in cross-data-set transfer beta even of each target, at test time.
"""

import math

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, Changes
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, between

from .base import PromptTrainer
from .mmrl import MMRL, MMRLModel

#: beta and lambda by data set.
SETTINGS = {
    "ImageNet": (0.9, 0.2),
    "FGVCAircraft": (0.9, 2.0),
    "UCF101": (0.9, 3.0),
    "DescribableTextures": (0.9, 7.0),
    "OxfordPets": (0.7, 0.01),
    "StanfordCars": (0.7, 6.0),
    "Caltech101": (0.6, 3.0),
    "SUN397": (0.5, 3.0),
    "OxfordFlowers": (0.4, 7.0),
    "EuroSAT": (0.2, 0.01),
    "Food101": (0.1, 1.0),
}
#: beta in cross-data-set transfer, by the data set that is tested.
TRANSFER = {
    "ImageNet": 0.9,
    "ImageNetV2": 0.9,
    "ImageNetR": 0.9,
    "ImageNetA": 0.8,
    "ImageNetSketch": 0.7,
    "FGVCAircraft": 0.9,
    "UCF101": 0.9,
    "SUN397": 0.7,
    "OxfordPets": 0.6,
    "Caltech101": 0.6,
    "DescribableTextures": 0.5,
    "OxfordFlowers": 0.4,
    "StanfordCars": 0.3,
    "EuroSAT": 0.3,
    "Food101": 0.3,
}


class SharedProjection(nn.Module):
    """W + A_j B_j and b_j for each of n blocks: W (out, in), A (out, r) Kaiming-uniform, B (r, in) zero."""

    def __init__(self, width_in: int, width_out: int, rank: int, n: int) -> None:
        super().__init__()
        like = nn.Linear(width_in, width_out)
        self.weight = nn.Parameter(like.weight.detach())
        self.a = nn.ParameterList(torch.empty(width_out, rank) for _ in range(n))
        self.b = nn.ParameterList(torch.zeros(rank, width_in) for _ in range(n))
        self.bias = nn.ParameterList(like.bias.detach().clone() for _ in range(n))
        for a in self.a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """(K, in) -> n times (K, out)."""
        shared = tokens @ self.weight.t()
        own = zip(self.a, self.b, self.bias)
        return [shared + tokens @ b.t() @ a.t() + bias for a, b, bias in own]


class MMRLppModel(MMRLModel):
    """K tokens of the shared space, a projection into either tower, and additions of low rank."""

    clip_projection: Tensor
    section = "MMRLpp"
    reg_weights, rep_dims = {name: weight for name, (_, weight) in SETTINGS.items()}, {}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        dataset, transfer = cfg.DATASET.NAME, self.options.TASK == "CD"
        known = TRANSFER if transfer else {name: beta for name, (beta, _) in SETTINGS.items()}
        self.beta = self.options.BETA if self.options.BETA >= 0 else known.get(dataset, 0.9)

    def build_projections(self) -> None:
        n, rank, d = len(self.blocks), self.options.RES_LORA_DIM, self.clip.joint_width
        self.to_image = SharedProjection(self.width, self.clip.image.width, rank, n)
        self.to_text = SharedProjection(self.width, self.clip.text.width, rank, n)
        self.a = nn.Parameter(torch.empty(self.clip.image.width, self.options.PROJ_LORA_DIM))
        self.b = nn.Parameter(torch.zeros(self.options.PROJ_LORA_DIM, d))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.register_buffer("clip_projection", self.clip.image.weight("projection"), persistent=False)
        learner = "representation_learner."
        self.released = {
            "tokens": f"{learner}compound_rep_tokens",
            "a": "image_encoder.A",
            "b": "image_encoder.B",
        }
        for ours, theirs in (("to_image", f"{learner}srra_r2vproj"), ("to_text", f"{learner}srra_r2tproj")):
            self.released[f"{ours}.weight"] = f"{theirs}.weight"
            for j in range(n):
                for part, name in (("a", "A"), ("b", "B"), ("bias", "bias")):
                    self.released[f"{ours}.{part}.{j}"] = f"{theirs}.srra.{j}.{name}"

    def text_changes(self) -> Changes:
        return self.entering(self.to_text(self.tokens), kept=1 - self.beta)

    def image_changes(self) -> Changes:
        return self.entering(self.to_image(self.tokens), kept=1 - self.beta)

    def rep_projection(self) -> Tensor:
        return self.clip_projection + self.a @ self.b


@TRAINER_REGISTRY.register()
class MMRLpp(PromptTrainer):
    model_class = MMRLppModel
    model_name = MMRL.model_name
    clip_projection: Tensor
    section = "MMRLpp"
    disclosures = ("told_half", "set_for_dataset", "set_for_target")
    keys = MMRL.keys | {
        "REP_DIM": Key(512, "d_r, width of the shared space", at_least(1)),
        "BETA": Key(-1.0, "share of new tokens; -1: the data set's, or 0.9", between(-1, 1)),
        "RES_LORA_DIM": Key(4, "r, rank of a block's addition", at_least(1)),
        "PROJ_LORA_DIM": Key(64, "rank of the second projection's addition", at_least(1)),
    }
