"""TCP: textual-based class-aware prompt tuning (Yao et al., CVPR 2024, arXiv 2311.18231).

CoOp's context in the first text blocks; then tokens of each class's own take its place, which a small network makes of
the class's zero-shot text (eq. 4-6). Like KgCoOp it stays close to the zero-shot texts:
L = CE + W (1 - mean_c cos(t_c, t0_c)).

What comes before the class's own tokens is computed once for all classes.

Two variants. ``paper``: the tokens enter block CLASS_DEPTH (its layer 8), W counts. ``release``: they enter the block
behind that, and W is 8 whatever is given. The release asks for an eps of 1e-3 in Adam (OPTIM.ADAM_EPS), which its
configs here give: with 1e-8 its fp16 ends in NaN. What is learned is fp32 here and needs no such thing, but eps changes
results.
"""

from collections import OrderedDict

from open_clip.transformer import QuickGELU
from torch import nn
from yacs.config import CfgNode

from clip import CLIP, Changes, Tokens
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, one_of

from .base import PREC, PromptTrainer
from .near_zeroshot import NearZeroshotModel
from .release import Release
from .text_context import STD, TextContext

WORDS, RELEASED_WEIGHT = "a photo of a", 8.0
#: Words of the class text, of which the first N_CTX are learned: those that the release writes out.
BEGINNINGS = {"UCF101": "a photo of a person doing"}
#: What stands behind the class name, by data set; elsewhere a full stop.
ENDINGS = {
    "OxfordPets": ", a type of pet.",
    "OxfordFlowers": ", a type of flower.",
    "FGVCAircraft": ", a type of aircraft.",
    "DescribableTextures": " texture.",
    "StanfordCars": ", a type of car",
    "Food101": ", a type of food.",
}
#: Templates of the zero-shot texts, where they are not the data set's.
ZEROSHOT = {
    "FGVCAircraft": "a photo of an aircraft {}.",
    "DescribableTextures": "a photo of a {}, a type of texture.",
    "Food101": "a photo of a {}, a type of food.",
}


class TCPModel(NearZeroshotModel):
    """n context tokens (n, w), and the network d -> d / 4 -> n w."""

    released = {"context.ctx": "ctx", "meta_net": "meta_net"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options, dataset = cfg.TRAINER.COOP, cfg.DATASET.NAME
        released = options.VARIANT == "release"
        self.weight = RELEASED_WEIGHT if released else options.W
        self.block = options.CLASS_DEPTH - (0 if released else 1)
        if not 0 <= self.block < clip.text.depth:
            first = 0 if released else 1
            raise ValueError(
                f"CLASS_DEPTH is {options.CLASS_DEPTH}, the text tower of {clip.name} allows {first} to "
                f"{clip.text.depth - 1 + first} with VARIANT {options.VARIANT}"
            )
        switch = {"": "", "False": "", "True": WORDS}  # the release's key is a switch
        given = switch.get(options.CTX_INIT, options.CTX_INIT.replace("_", " "))
        words = BEGINNINGS.get(dataset, given)
        n_ctx = len(given.split()) or options.N_CTX
        self.context = TextContext(clip, classnames, n_ctx, init=words, ending=ENDINGS.get(dataset, "."))
        if not given:
            nn.init.normal_(self.context.ctx, std=STD)
        self.zeroshot = self.zeroshot_texts([ZEROSHOT.get(dataset, template)])
        d = clip.joint_width
        layers = {
            "linear1": nn.Linear(d, d // 4),
            "gelu": QuickGELU(),
            "linear2": nn.Linear(d // 4, n_ctx * clip.text.width),
        }
        self.meta_net = nn.Sequential(OrderedDict(layers))

    def text_changes(self) -> Changes:
        """Tokens (C, 1, n, w) of each class's own."""
        n, w = self.context.ctx.shape
        tokens = self.meta_net(self.zeroshot).view(-1, 1, n, w)
        return Changes(tokens=(Tokens(self.block, tokens),))


@TRAINER_REGISTRY.register()
class TCP(PromptTrainer):
    model_class = TCPModel
    section = "COOP"
    keys = {
        "VARIANT": Key("paper", "release: a block later, and W is 8", one_of("paper", "release")),
        "CLASS_DEPTH": Key(8, "the text block that the classes' own tokens enter, see VARIANT", at_least(0)),
        # The section is CoOp's, and so is the default; the configs here say 4.
        "N_CTX": Key(16, "n, tokens of the context, and of each class", at_least(1)),
        "CTX_INIT": Key("", "initial words, True for a photo of a; they decide the number of tokens"),
        "PREC": PREC,
        "W": Key(8.0, "weight of the distance to zero-shot CLIP", at_least(0)),
    }
    released_as = {"TCP": Release("COOP", {"VARIANT": "release"}, only={}, recorded={"layer": "CLASS_DEPTH"})}
