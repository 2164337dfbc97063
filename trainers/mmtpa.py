"""MMTPA: multi-mode token-level prompt alignment across modalities (Wang et al., NeurIPS 2023, arXiv 2309.13847).

M visual and N textual prompts give an image M and a class N points; each point is itself a set of tokens. How alike
image and class are is decided by optimal transport between the points, whose cost in every cell is a cosine distance
plus the optimal transport between the two sets of tokens behind it.

Two variants. ``paper`` follows the text: distances at both levels, gradient through the costs of both. ``release``
reproduces the authors' code (trainer MMP of "ALIGN"): the token level yields a similarity that is added to the prompt
cost, only the global cosines are scored, and no gradient reaches the tokens.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from alignment import hierarchical_transport
from clip import CLIP, Changes, ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, above, at_least, one_of

from .base import PREC, PromptTrainer
from .matching import Matching, hierarchical_matching
from .prompt_model import PromptModel
from .release import Release
from .text_context import TextContext
from .unit import unit
from .visual_prompts import COUPLED_NAMES, FreeVisualPrompts, Projection

VARIANTS = ("paper", "release")
#: Where a prompt's tokens end that enter the transport: at its own end of text, or at that of the class's first prompt,
#: as in the release, whose tensors are rectangular. "": what the variant does.
TEXT_ENDS = ("", "own", "first")


class Texts(NamedTuple):
    points: Tensor  #: (C, N, d)
    tokens: Tensor | None  #: (C, N, L, d), in the dtype of the towers
    lengths: Tensor | None  #: (C,) or (C, N) valid tokens


class MMTPAModel(PromptModel):
    """N text prompts of n tokens, M visual prompts: projected from the text ones if M = N, else free."""

    released = COUPLED_NAMES
    lengths: Tensor

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.options = options = cfg.TRAINER.MMTPA
        self.scores_batches = options.VARIANT == "release"  # its iteration ends for all pairs together
        n_text, n_vision = options.TEXT_PROMPT_NUMBER, options.VISION_PROMPT_NUMBER
        depth_text, depth_vision = options.TEXT_PROMPT_DEPTH, options.VISION_PROMPT_DEPTH

        text_end = options.TEXT_END or ("own" if options.VARIANT == "paper" else "first")
        sentences = options.CTX_INIT.split("\t")[:n_text]
        sentences += [""] * (n_text - len(sentences))
        self.context = TextContext(
            clip,
            classnames,
            options.N_CTX,
            sentences=sentences,
            depth=depth_text,
            depth_key="TEXT_PROMPT_DEPTH",
            tokens=text_end if options.HIERARCHICAL else "",
        )
        # Where the model is: from the CPU they would be copied in every step.
        lengths = torch.tensor(self.context.token_counts, dtype=torch.long)  # (C, N), or (C, 1)
        self.register_buffer("lengths", lengths.squeeze(-1), persistent=False)
        if n_text == n_vision:
            if depth_vision > depth_text:
                raise ValueError(
                    f"VISION_PROMPT_DEPTH is {depth_vision}: visual prompts are projected from the "
                    f"text ones, at most TEXT_PROMPT_DEPTH ({depth_text}) layers"
                )
            self.projection = Projection(clip, depth_vision, "VISION_PROMPT_DEPTH")
        else:
            self.visual = FreeVisualPrompts(
                clip, options.N_CTX, depth_vision, "VISION_PROMPT_DEPTH", n_vision
            )

    def image_changes(self) -> Changes:
        if hasattr(self, "visual"):
            return self.visual()
        return self.projection(self.context.ctx, self.context.deep_prompts())

    def encode_texts(self) -> Texts:
        points, tokens = self.text_features()
        return Texts(points, tokens, None if tokens is None else self.of_classes(self.lengths))

    def encode_images(self, images: Tensor) -> ImageFeatures:
        return self.clip.image(images, self.current_image_changes(), tokens=self.options.HIERARCHICAL)

    def transport(self, *points: Any, **options: Any) -> Tensor:
        """(B, C) similarities; a subclass or a benchmark puts another transport here."""
        return hierarchical_transport(*points, **options)

    def score(self, images: ImageFeatures, texts: Texts) -> Tensor:
        return self.clip.logit_scale.exp() * self.transport(**self._problem(images, texts))

    def matching(self, images: ImageFeatures, texts: Texts, classes: Tensor) -> Matching:
        scale = self.clip.logit_scale.exp()
        return hierarchical_matching(classes=classes, scale=scale, **self._problem(images, texts))

    def _problem(self, images: ImageFeatures, texts: Texts) -> dict[str, Any]:
        """The transport's arguments."""
        options, (points, tokens) = self.options, images
        return {
            "image_points": points,
            "text_points": texts.points,
            "image_tokens": tokens,
            "text_tokens": texts.tokens,
            "text_lengths": texts.lengths,
            "normalize": True,
            "variant": options.VARIANT,
            "beta": options.BETA,
            "eps": options.EPS,
            "max_iter": options.MAX_ITER,
            "tol": options.TOL,
        }

    def local_cosines(self, images: Tensor, texts: Texts) -> Tensor:
        """Means over all pairs of prompts; of use where no tokens are matched."""
        local = unit(self.local_features(images)).mean(dim=1)
        return torch.einsum("bpd,cd->bcp", local, unit(texts.points).mean(dim=1))


@TRAINER_REGISTRY.register()
class MMTPA(PromptTrainer):
    model_class = MMTPAModel
    model_name = "MultiModalPromptLearner"
    section = "MMTPA"
    keys = {
        "VARIANT": Key("paper", "the paper's text, or the authors' code", one_of(*VARIANTS)),
        "N_CTX": Key(2, "n, context tokens of a prompt", at_least(1)),
        "CTX_INIT": Key("a photo of a", "sentences separated by tabs, one for each text prompt"),
        "PREC": PREC,
        "TEXT_PROMPT_NUMBER": Key(4, "N", at_least(1)),
        "VISION_PROMPT_NUMBER": Key(4, "M", at_least(1)),
        "TEXT_PROMPT_DEPTH": Key(9, "D, with the shallow prompts", at_least(1)),
        "VISION_PROMPT_DEPTH": Key(9, "D of the image tower", at_least(1)),
        "HIERARCHICAL": Key(True, "False: transport between prompts alone"),
        "BETA": Key(1.0, "weight of the token level in the prompt cost", at_least(0)),
        "EPS": Key(0.1, "entropic regularisation of both levels", above(0)),
        "MAX_ITER": Key(100, "ceiling of the scaling iterations", at_least(1)),
        "TOL": Key(1e-2, "change of the scalings below which they stop, of both levels", at_least(0)),
        "TEXT_END": Key(
            "",
            "tokens of a text prompt up to its own end of text, or that of the class's first prompt; '': own in the "
            "paper variant, first in the release's",
            one_of(*TEXT_ENDS),
        ),
    }
    released_as = {"MMP": Release("MMP", settings={"VARIANT": "release"}, only={"USECT": False})}
