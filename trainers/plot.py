"""PLOT: prompt learning with optimal transport (Chen et al., ICLR 2023).

N prompts for each class against all local features of the image: the similarity is the transport plan's share of every
cosine, sum(T * cos), with uniform marginals (section 3.3). Single-mode ancestor of MMTPA; same transport.
"""

from typing import NamedTuple

from torch import Tensor
from yacs.config import CfgNode

from alignment import hierarchical_transport
from clip import CLIP
from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer, section
from .prompt_model import PromptModel, unit
from .text_context import TextContext


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
        if options.CSC:
            raise ValueError("CSC is True, PLOT's contexts are shared by the classes: only False is allowed")
        if options.N < 1:
            raise ValueError(f"N is {options.N}, at least one prompt is needed")
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

    def score(self, images: tuple[Tensor, Tensor], texts: Texts) -> Tensor:
        summary, local = images
        similarity = hierarchical_transport(local, texts.prompts, variant="release")
        logits = self.clip.logit_scale.exp() * similarity
        if self.add_pooled:
            logits = logits + self.scaled_cosines(summary, texts.pooled)
        return logits


@TRAINER_REGISTRY.register()
class PLOT(PromptTrainer):
    model_class = PLOTModel
    section = "PLOT"

    @staticmethod
    def extend_cfg(cfg: CfgNode) -> None:
        options = section(cfg, "PLOT")
        options.N = 4  # prompts for each class
        options.N_CTX = 16  # context tokens of a prompt
        options.CSC = False  # the release's key; contexts are shared here
        options.CTX_INIT = ""  # initial words; they decide the number of tokens
        options.PREC = "fp16"  # fp32, fp16, amp or bf16
        options.CLASS_TOKEN_POSITION = "end"  # end, middle or front
