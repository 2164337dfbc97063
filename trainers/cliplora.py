"""CLIP-LoRA: low-rank few-shot adaptation of vision-language models (Zanella and Ben Ayed, CVPRW 2024).

Every chosen attention matrix W of every chosen block becomes W + (alpha / sqrt(r)) B A (section 3, with the scale of
rsLoRA), A Kaiming-uniform and B zero at the start, dropout on the input of B A. Everything else is zero-shot CLIP with
"a photo of a <class>." for all data sets, a temperature of 1 / 100, and cross-entropy.

In the text tower texts share their beginning, and so that has one dropout mask for all classes.

``VARIANT: release`` also reproduces what happens there without dropout: the gradient with respect to what enters an
adapted matrix is that of W alone. Nothing is held out: the last step's weights are tested.
"""

import math

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, NONE, Changes, LowRank
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Allowed, Key, at_least, between, one_of

from .base import PREC, PromptTrainer
from .fixed_texts import FixedTextModel, FixedTexts

TEMPLATE = "a photo of a {}."
SCALE = 100.0  #: a constant, not CLIP's own
ENCODERS = {"both": ("vision", "text"), "vision": ("vision",), "text": ("text",)}
#: Matrices -> their names in the release.
MATRICES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}
#: Of a tower of L blocks, as fractions of it; the release counts for 12.
POSITIONS = {
    "all": (0, 1),
    "bottom": (0, 1 / 3),
    "mid": (1 / 3, 2 / 3),
    "up": (2 / 3, 1),
    "half-up": (1 / 2, 1),
    "half-bottom": (0, 1 / 2),
    "top3": (3 / 4, 1),
}
_some = f"some of {', '.join(MATRICES)}"
PARAMS = Allowed(lambda names: bool(names) and set(names) <= set(MATRICES), f"{_some} are needed", _some)


class Addition(nn.Module):
    """A (r, width) and B (width, r) of one matrix."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, width))
        self.up = nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))


class CLIPLoRAModel(FixedTextModel):
    """Additions of rank r to attention matrices, of one tower or both."""

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.options = options = cfg.TRAINER.CLIPLORA
        self.towers = ENCODERS[options.ENCODER]
        if "vision" in self.towers and clip.image.obstacle is not None:
            raise ValueError(
                f"ENCODER is {options.ENCODER!r}, the image tower of MODEL.BACKBONE.NAME {clip.name!r} takes no "
                f"additions, a plain ViT does: it is {clip.image.obstacle}; choose text"
            )
        self.texts = FixedTexts(clip, TEMPLATE, classnames)
        if "text" not in self.towers:
            self.frozen_texts = self.zeroshot_texts([TEMPLATE])
        self.additions = nn.ModuleDict()
        self.released = {}
        for kind, tower, prefix in (("text", clip.text, ""), ("vision", clip.image, "visual.")):
            if kind not in self.towers:
                continue
            first, last = (round(part * tower.depth) for part in POSITIONS[options.POSITION])
            for block in range(first, last):
                for name in sorted(options.PARAMS, key=list(MATRICES).index):
                    self.additions[f"{kind}_{block}_{name}"] = Addition(tower.width, options.R)
                    theirs = f"{prefix}transformer.resblocks.{block}.attn.{MATRICES[name]}.w_lora_"
                    ours = f"additions.{kind}_{block}_{name}"
                    self.released |= {f"{ours}.down": f"{theirs}A", f"{ours}.up": f"{theirs}B"}

    def changes(self, kind: str) -> Changes:
        if kind not in self.towers:
            return NONE
        options = self.options
        scale, dropout = options.ALPHA / math.sqrt(options.R), options.DROPOUT_RATE if self.training else 0.0
        cut = options.VARIANT == "release" and options.DROPOUT_RATE == 0
        weights = {}
        for name, addition in self.additions.items():
            assert isinstance(addition, Addition)
            where, block, matrix = name.split("_")
            if where == kind:
                change = LowRank(addition.down, addition.up, scale, dropout, cut)
                weights[f"blocks.{block}.{matrix}.weight"] = change
        return Changes(weights=weights)

    def text_changes(self) -> Changes:
        return self.changes("text")

    def image_changes(self) -> Changes:
        return self.changes("vision")

    def encode_texts(self) -> Tensor:
        return super().encode_texts() if "text" in self.towers else self.of_classes(self.frozen_texts)

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
        "PARAMS": Key(("q", "k", "v"), "which matrices of attention", PARAMS),
        "POSITION": Key("all", "which blocks, the release's names", one_of(*POSITIONS)),
        "R": Key(2, "r, rank of an addition", at_least(1)),
        "ALPHA": Key(1.0, "an addition counts alpha / sqrt(r)"),
        "DROPOUT_RATE": Key(0.25, "of what enters an addition, in training", between(0, 1, below=True)),
        "PREC": PREC,
    }
