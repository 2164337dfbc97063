"""PLOT: prompt learning with optimal transport (Chen et al., ICLR 2023).

N prompts for each class against all local features of the image: the similarity is the transport plan's share of every
cosine, sum(T * cos), with uniform marginals (section 3.3). Single-mode ancestor of MMTPA; same transport.
"""

from typing import Any, NamedTuple, cast

from torch import Tensor
from yacs.config import CfgNode

from alignment import hierarchical_transport
from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, one_of

from .base import PREC, PromptTrainer
from .matching import Matching, hierarchical_matching
from .prompt_model import PromptModel
from .text_context import POSITIONS, TextContext
from .unit import unit


class Texts(NamedTuple):
    prompts: Tensor  #: (C, N, d), unit norm
    pooled: Tensor  #: (C, d), their mean before scaling to unit norm


class PLOTModel(PromptModel):
    """N contexts of n tokens (N, n, w), shared by all classes."""

    released = {"context.ctx": "ctx"}
    scores_batches = True  # the release's iteration ends for all pairs of image and class together

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.PLOT
        self.add_pooled = cfg.DATASET.NAME == "ImageNet"  # as in the release
        words = options.CTX_INIT.replace("_", " ")
        n_ctx = len(words.split()) or options.N_CTX
        position = options.CLASS_TOKEN_POSITION
        self.context = TextContext(clip, classnames, n_ctx, sentences=[words] * options.N, position=position)

    def encode_texts(self) -> Texts:
        prompts = self.text_features().summary
        return Texts(unit(prompts), prompts.float().mean(dim=1))

    def encode_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Summaries (B, d) and local features (B, P, d), these of unit norm."""
        summary, local = self.clip.image(images, tokens=True)
        return summary[:, 0], unit(local[:, 0])

    def transport(self, *points: Any, **options: Any) -> Tensor:
        """(B, C) similarities; a subclass or a benchmark puts another transport here."""
        return hierarchical_transport(*points, **options)

    def score(self, images: tuple[Tensor, Tensor], texts: Texts) -> Tensor:
        summary, local = images
        similarity = self.transport(local, texts.prompts, variant="release")
        logits = self.clip.logit_scale.exp() * similarity
        if self.add_pooled:
            logits = logits + self.scaled_cosines(summary, texts.pooled)
        return logits

    def matching(self, images: tuple[Tensor, Tensor], texts: Texts, classes: Tensor) -> Matching:
        """The plan is between patches and whole prompts: one level, told as that of tokens."""
        summary, local = images
        scale = self.clip.logit_scale.exp()
        plans = hierarchical_matching(local, texts.prompts, classes=classes, scale=scale, variant="release")
        plan = cast(Tensor, plans.prompts)  # (B, C, P, N)
        pooled = self.scaled_cosines(summary, texts.pooled) if self.add_pooled else 0.0
        return Matching(
            prompts=None,
            tokens=plan[:, classes, None, None],
            score=plans.score + pooled,
            uniform_prompts=None,
            uniform=plans.uniform + pooled,
        )

    def words(self, label: int) -> list[list[str]]:
        prompts = enumerate(self.context.words(label), start=1)
        return [[f"{n}: {' '.join(words[1:-1])}" for n, words in prompts]]


@TRAINER_REGISTRY.register()
class PLOT(PromptTrainer):
    model_class = PLOTModel
    section = "PLOT"
    keys = {
        "N": Key(4, "prompts for each class", at_least(1)),
        "N_CTX": Key(16, "context tokens of a prompt", at_least(1)),
        "CSC": Key(False, "the release's key; contexts are shared here", one_of(False)),
        "CTX_INIT": Key("", "initial words; they decide the number of tokens"),
        "PREC": PREC,
        "CLASS_TOKEN_POSITION": Key("end", "where the class name stands", one_of(*POSITIONS)),
    }
