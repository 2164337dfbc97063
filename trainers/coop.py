"""CoOp: learning to prompt for vision-language models (Zhou et al., IJCV 2022).

The class text "a photo of a <class>." becomes "[V]_1 ... [V]_n <class>." with n learned vectors (eq. 2), one context
for all classes or one for each. The image side stays as it is; the loss is cross-entropy on scaled cosines (eq. 1).
"""

from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, one_of

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .text_context import POSITIONS, TextContext


class CoOpModel(PromptModel):
    """n context tokens in the text (n, w), or class-specific (C, n, w)."""

    released = {"context.ctx": "ctx"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.COOP
        words = self.initial_words(options)
        class_specific = options.CSC and not words  # as in the release: words are one context for all classes
        self.context = TextContext(
            clip,
            classnames,
            n_ctx=len(words.split()) or options.N_CTX,
            init=words,
            class_specific=class_specific,
            position=options.CLASS_TOKEN_POSITION,
        )
        if class_specific:
            self.fits_these_classes_only()

    def initial_words(self, options: CfgNode) -> str:
        return options.CTX_INIT.replace("_", " ")


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    model_class = CoOpModel
    section = "COOP"
    keys = {
        "N_CTX": Key(16, "number of context tokens", at_least(1)),
        "CSC": Key(False, "a context for each class, unless CTX_INIT gives words"),
        "CTX_INIT": Key("", "initial words; they decide the number of tokens"),
        "PREC": PREC,
        "CLASS_TOKEN_POSITION": Key("end", "where the class name stands", one_of(*POSITIONS)),
    }
