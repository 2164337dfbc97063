"""MMRL: multi-modal representation learning (Guo and Gu, CVPR 2025, arXiv 2503.08497).

K tokens of a space that both modalities share are projected into both towers and inserted there in front of the first
of the blocks J; in front of each later one they are replaced by that block's own projection (section 3.2). Beside the
class token, which keeps CLIP's projection, the mean of the K image tokens, the representation, has one of its own.

L = alpha CE(class) + (1 - alpha) CE(rep) + lambda (1 - cos(f, f0)) + lambda (1 - mean_c cos(t_c, t0_c))  (eq. 8-12)

with f0, t0 of frozen CLIP. Tested are alpha class + (1 - alpha) rep where the classes are those that were trained, and
the class feature alone elsewhere; which of both, the user says (TASK): the method is told.

``VARIANT: release`` also keeps the texts and tokens of the first evaluation for all later ones, as the authors' code
does: what is tested between epochs is then wrong from the second time on.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP, Changes, Tap, Tokens
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Allowed, Key, at_least, one_of, share

from .base import PREC, PromptTrainer
from .fixed_texts import FixedTextModel, FixedTexts
from .near_zeroshot import distance
from .text_context import STD
from .unit import unit

SCALE = 100.0  #: a constant, not CLIP's own
TASKS = ("FS", "B2N", "CD")
#: lambda by data set, for all protocols but cross-data-set; EuroSAT also has a wider space.
REG_WEIGHTS = {
    "StanfordCars": 7.0,
    "FGVCAircraft": 6.0,
    "SUN397": 6.0,
    "DescribableTextures": 6.0,
    "Food101": 5.0,
    "OxfordFlowers": 4.0,
    "UCF101": 3.0,
    "ImageNet": 0.5,
    "Caltech101": 0.5,
    "OxfordPets": 0.2,
    "EuroSAT": 0.01,
}
REP_DIMS = {"EuroSAT": 2048}
_blocks = "different numbers of blocks, from 1 on"
BLOCKS = Allowed(
    lambda blocks: bool(blocks) and len(set(blocks)) == len(blocks) and all(b >= 1 for b in blocks),
    f"{_blocks}, are needed",
    _blocks,
)


class Features(NamedTuple):
    summary: Tensor  #: (B, d), the class token
    rep: Tensor  #: (B, d), the mean of the K tokens


class MMRLModel(FixedTextModel):
    """K tokens (K, d_r) of the shared space, a projection into either tower for each of J blocks, a second (d_v, d)."""

    to_image: Any
    to_text: Any
    section = "MMRL"
    zeroshot_guides = True
    reg_weights, rep_dims = REG_WEIGHTS, REP_DIMS
    released_unused = ("prompt_embeddings",)

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.options = options = cfg.TRAINER[self.section]
        dataset = cfg.DATASET.NAME
        self.weight = options.REG_WEIGHT if options.REG_WEIGHT >= 0 else self.reg_weights.get(dataset, 1.0)
        self.width = options.REP_DIM or self.rep_dims.get(dataset, 512)
        if clip.image.obstacle is not None:
            raise ValueError(
                f"MODEL.BACKBONE.NAME {clip.name!r} takes no tokens, a plain ViT is needed: its image tower is "
                f"{clip.image.obstacle}"
            )
        self.blocks = sorted(block - 1 for block in options.REP_LAYERS)
        depth = min(clip.text.depth, clip.image.depth)
        if self.blocks[-1] >= depth:
            raise ValueError(
                f"REP_LAYERS is {tuple(options.REP_LAYERS)}, {clip.name} has blocks 1 to {depth}"
            )
        known = {
            "FS": True,
            "B2N": cfg.DATASET.SUBSAMPLE_CLASSES == "base",
            "CD": dataset == "ImageNet",
        }
        self.fused = known[options.TASK]
        self.texts = FixedTexts(clip, template, classnames)
        self.frozen_texts = self.zeroshot_texts([template])
        self.tokens = nn.Parameter(torch.randn(options.N_REP_TOKENS, self.width) * STD)
        self.build_projections()
        self._first_texts: dict[tuple[int, ...] | None, Tensor] = {}  # of each chunk of classes
        self._first_image_changes: Changes | None = None

    def build_projections(self) -> None:
        n, d_v, d_t = len(self.blocks), self.clip.image.width, self.clip.text.width
        self.to_image = nn.ModuleList(nn.Linear(self.width, d_v) for _ in range(n))
        self.to_text = nn.ModuleList(nn.Linear(self.width, d_t) for _ in range(n))
        for copies in (self.to_image, self.to_text):  # as released, all begin alike
            for copy in copies[1:]:
                copy.load_state_dict(copies[0].state_dict())
        self.projection = nn.Parameter(torch.randn(d_v, self.clip.joint_width) * d_v**-0.5)
        learner = "representation_learner.compound_rep_tokens"
        self.released = {
            "tokens": learner,
            "to_image": f"{learner}_r2vproj",
            "to_text": f"{learner}_r2tproj",
            "projection": "image_encoder.proj_rep",
        }

    def entering(self, projected: list[Tensor], kept: float = 0.0) -> Changes:
        """Tokens (K, w) of each of the J blocks: inserted in front of the first."""
        tokens = [
            Tokens(block, values[None], insert=i == 0, kept=kept if i else 0.0)
            for i, (block, values) in enumerate(zip(self.blocks, projected))
        ]
        return Changes(tokens=tuple(tokens))

    def text_changes(self) -> Changes:
        return self.entering([project(self.tokens) for project in self.to_text])

    def image_changes(self) -> Changes:
        return self.entering([project(self.tokens) for project in self.to_image])

    def rep_projection(self) -> Tensor:
        """(d_v, d)"""
        return self.projection

    def encode_texts(self) -> Tensor:
        if self.training or self.options.VARIANT == "paper":
            return super().encode_texts()
        classes = self.class_texts.classes
        chunk = None if classes is None else tuple(classes.tolist())
        if chunk not in self._first_texts:
            self._first_texts[chunk] = super().encode_texts()
        return self._first_texts[chunk]

    def keep_image_changes(self) -> None:
        super().keep_image_changes()
        if self.options.VARIANT == "release":
            self._first_image_changes = self._first_image_changes or self.kept_image_changes
            self.kept_image_changes = self._first_image_changes

    def encode_images(self, images: Tensor) -> Features:
        tap = Tap("added", projected=False)
        summary, added = self.clip.image(images, self.current_image_changes(), tokens=tap)
        assert added is not None
        with torch.autocast(images.device.type, enabled=False):
            rep = added[:, 0].float().mean(dim=1) @ self.rep_projection()
        return Features(summary[:, 0], rep)

    def inverse_temperature(self) -> Tensor:
        return torch.full_like(self.clip.logit_scale, SCALE)

    def parts(self, images: Features, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) of the class feature and of the representation feature."""
        with torch.autocast(texts.device.type, enabled=False):
            texts = self.inverse_temperature() * unit(texts).t()
            return unit(images.summary) @ texts, unit(images.rep) @ texts

    def score(self, images: Features, texts: Tensor) -> Tensor:
        of_class, of_rep = self.parts(images, texts)
        return torch.lerp(of_rep, of_class, self.options.ALPHA) if self.fused else of_class

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        texts, features = self.encode_texts(), self.encode_images(images)
        of_class, of_rep = self.parts(features, texts)
        alpha = self.options.ALPHA
        frozen = self.clip.image(images).summary[:, 0]
        of_images = distance(features.summary, unit(frozen))
        of_texts = distance(texts, self.of_classes(self.frozen_texts))
        loss = alpha * F.cross_entropy(of_class, labels) + (1 - alpha) * F.cross_entropy(of_rep, labels)
        return loss + self.weight * (of_images + of_texts), torch.lerp(of_rep, of_class, alpha)


@TRAINER_REGISTRY.register()
class MMRL(PromptTrainer):
    model_class = MMRLModel
    model_name = "MultiModalRepresentationLearner"
    section = "MMRL"
    disclosures: tuple[str, ...] = ("told_half", "set_for_dataset")
    keys = {
        "VARIANT": Key(
            "paper", "release: its first evaluation's texts, for ever", one_of("paper", "release")
        ),
        "TASK": Key("FS", "what is tested: FS, B2N (base or new), CD (cross-data-set)", one_of(*TASKS)),
        "N_REP_TOKENS": Key(5, "K", at_least(1)),
        "REP_DIM": Key(
            0, "d_r, width of the shared space; 0: the data set's (512, EuroSAT 2048)", at_least(0)
        ),
        "REP_LAYERS": Key(tuple(range(6, 13)), "J, blocks that tokens enter, counted from 1", BLOCKS),
        "ALPHA": Key(0.7, "share of the class feature", share),
        "REG_WEIGHT": Key(
            -1.0, "lambda, of the distance to frozen CLIP; -1: the data set's, or 1", at_least(-1)
        ),
        "PREC": Key("amp", PREC.what, PREC.allowed),
    }
