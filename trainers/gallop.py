"""GalLoP: learning global and local prompts for vision-language models (Lafon et al., ECCV 2024, arXiv 2407.01400).

Beside CoOp's comparison of the whole image, patches are compared with prompts of their own. A patch's feature is what
its values alone become in the last block, through a linear map W that starts as the identity, in front of CLIP's
projection. Local prompt i scores a class by the mean cosine of the k_i patches that are most like it, so that prompts
look at more or fewer of them; of N_g global prompts each image is compared with a random part in training (section 3).

L = CE(global) + mean_i CE(local_i),   logits = s (mean of global + mean of local) / 2.

``VARIANT: release`` draws global prompts with replacement, so that a dropout of 0 still leaves some out, and class
names keep their underscores. W is under weight decay as all is, which pulls it from the identity to zero: that is
OPTIM.WEIGHT_DECAY.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP, Tap, TextPrompts
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Allowed, Key, at_least, one_of, share

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .release import Release
from .text_context import TextContext
from .unit import unit

WORDS = "a photo of a"
_counts = "numbers of patches, 1 or more"
TOPK = Allowed(lambda counts: bool(counts) and all(k >= 1 for k in counts), f"{_counts}, are needed", _counts)


class Images(NamedTuple):
    summary: Tensor  #: (B, d), unit norm
    patches: Tensor  #: (B, P, d), unit norm


class Texts(NamedTuple):
    whole: Tensor  #: (C, N_g, d) of the global prompts, unit norm
    local: Tensor  #: (C, N_l, d) of the local ones, unit norm


class GalLoPModel(PromptModel):
    """Global prompts (N_g, n, w), local prompts (N_l, n, w), and W (d_v, d_v)."""

    section = "GALLOP"
    released = {
        "context.ctx": "global_prompt",
        "local_context.ctx": "local_prompts",
        "local_proj": "local_proj.linear",
    }
    released_unused = ("local_proj",)  # where it is not learned it is the identity
    draws = {"global_index": "draw"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.options = options = cfg.TRAINER[self.section]
        self.as_released = options.VARIANT == "release"
        if clip.image.obstacle is not None:
            raise ValueError(
                f"MODEL.BACKBONE.NAME {clip.name!r} has no values of patches, a plain ViT is needed: its image tower "
                f"is {clip.image.obstacle}"
            )
        # prompts that are not learned stay alike: one is enough
        n_global = options.N_GLOBAL_PROMPTS if options.LEARN_GLOBAL_PROMPT else 1
        self.context = self.new_context(classnames, n_global)
        if not options.LEARN_GLOBAL_PROMPT:
            self.context.freeze()
        self.local_context: TextContext | None = None
        if options.LEARN_LOCAL_PROMPTS:
            self.local_context = self.new_local_context(classnames, options.N_LOCAL_PROMPTS)
        self.tap = Tap("patches", "values", projected=not options.LEARN_LOCAL_PROJ)
        self.local_proj: nn.Linear | None = None
        if options.LEARN_LOCAL_PROJ:
            self.projection = clip.image.weight("projection")
            self.local_proj = nn.Linear(clip.image.width, clip.image.width, bias=False)
            nn.init.eye_(self.local_proj.weight)
        self.learn_what_losses_need()
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError(
                f"USE_GLOBAL_LOSS is {options.USE_GLOBAL_LOSS}, USE_LOCAL_LOSS {options.USE_LOCAL_LOSS}, and nothing "
                "is learned by that: a loss is needed whose prompts, or LOCAL_PROJ, a LEARN_ key lets learn"
            )
        rows, columns = clip.image.grid
        self.set_patches(rows * columns, options.N_LOCAL_PROMPTS if options.LEARN_LOCAL_PROMPTS else n_global)

    def new_context(self, classnames: list[str], number: int, **options: Any) -> TextContext:
        """Prompts "a photo of a <class>", without a full stop."""
        options |= {"sentences": [WORDS] * number, "ending": "", "underscores": self.as_released}
        return TextContext(self.clip, classnames, len(WORDS.split()), **options)

    def new_local_context(self, classnames: list[str], number: int) -> TextContext:
        return self.new_context(classnames, number)

    def learn_what_losses_need(self) -> None:
        """No gradient, not even of zeros, where no loss comes from: weight decay would move these, too."""
        of_whole, of_local = self.options.USE_GLOBAL_LOSS, self.options.USE_LOCAL_LOSS
        for part in (self.local_context, self.local_proj):
            if part is not None:
                part.requires_grad_(of_local)
        if self.options.LEARN_GLOBAL_PROMPT:
            self.context.requires_grad_(of_whole or (of_local and self.local_context is None))

    def set_patches(self, patches: int, prompts: int) -> None:
        """What each local prompt's patches count, the most similar one first."""
        counts = self.options.TOPK
        if len(counts) not in (1, prompts):
            raise ValueError(
                f"TOPK is {tuple(counts)}, one number for all {prompts} local prompts or one for each is needed"
            )
        counts = torch.tensor([min(k, patches) for k in counts])[:, None]
        self.weights: Tensor
        counted = (torch.arange(int(counts.max())) < counts) / counts  # (1 or N_l, K)
        self.register_buffer("weights", counted, persistent=False)

    def text_prompts(self) -> TextPrompts:
        """The global prompts, and behind them the local ones."""
        prompts = self.context()
        if self.local_context is None:
            return prompts
        return prompts.beside(self.local_context())

    def encode_texts(self) -> Texts:
        """Where there are no local prompts the global ones are compared with patches, too."""
        texts = unit(self.text_features().summary)
        whole = texts[:, : len(self.context.layout.roots)]
        return Texts(whole, whole if self.local_context is None else texts[:, whole.shape[1] :])

    def encode_images(self, images: Tensor) -> Images:
        summary, patches = self.clip.image(images, tokens=self.tap)
        assert patches is not None
        return Images(unit(summary[:, 0]), unit(self.projected(patches[:, 0])))

    def projected(self, patches: Tensor) -> Tensor:
        """(B, P, d_v) behind the last norm, or (B, P, d) where W is not learned -> (B, P, d)."""
        if self.local_proj is None:
            return patches
        with torch.autocast(patches.device.type, enabled=False):
            return patches.float() @ (self.local_proj.weight.t() @ self.projection)

    def cosines(self, images: Images, texts: Texts) -> tuple[Tensor, Tensor]:
        """(B, C, N_g) of images with global prompts, (B, C, N_l, P) of patches with local ones."""
        with torch.autocast(images.summary.device.type, enabled=False):
            return (
                torch.einsum("bd,cnd->bcn", images.summary, texts.whole),
                torch.einsum("bpd,cnd->bcnp", images.patches, texts.local),
            )

    def local_scores(self, cosines: Tensor) -> Tensor:
        """Of cosines (B, C, N_l, P): (B, C, N_l), each prompt's mean over its patches."""
        best = cosines.topk(self.weights.shape[1], dim=-1).values
        return (best * self.weights).sum(dim=-1)

    def parts(self, images: Images, texts: Texts) -> tuple[Tensor, Tensor]:
        """Cosines (B, C, N_g), and what patches score (B, C, N_l)."""
        whole, local = self.cosines(images, texts)
        return whole, self.local_scores(local)

    def score(self, images: Images, texts: Texts) -> Tensor:
        return self.fused(*self.parts(images, texts))

    def fused(self, whole: Tensor, local: Tensor) -> Tensor:
        return self.inverse_temperature() * (whole.mean(dim=-1) + local.mean(dim=-1)) / 2

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        whole, local = self.parts(self.encode_images(images), self.encode_texts())
        scale, losses = self.inverse_temperature(), []
        if self.options.USE_GLOBAL_LOSS:
            losses.append(F.cross_entropy(scale * self.kept(whole), labels))
        if self.options.USE_LOCAL_LOSS:
            losses.append(F.cross_entropy(scale * local, labels[:, None].expand(-1, local.shape[2])))
        return sum(losses[1:], losses[0]), self.fused(whole, local)

    def kept(self, cosines: Tensor) -> Tensor:
        """Of cosines (B, C, N_g): (B, C), means over the prompts that are kept of each image."""
        number = cosines.shape[2]
        count = max(1, number - int(self.options.GLOBAL_DROPOUT_P * number))
        if count == number and not self.as_released:
            return cosines.mean(dim=-1)
        index = self.draw(len(cosines), number, count, cosines.device)
        return cosines.gather(2, index.expand(-1, cosines.shape[1], -1)).mean(dim=-1)

    def draw(self, images: int, number: int, count: int, device: torch.device) -> Tensor:
        """(B, 1, count) which of ``number`` prompts are kept of each image."""
        if self.as_released:
            return torch.randint(number, (images, 1, count), device=device)
        return torch.rand(images, 1, number, device=device).topk(count, dim=-1).indices

    def local_features(self, images: Tensor) -> Tensor:
        return self.encode_images(images).patches[:, None]

    def local_cosines(self, images: Tensor, texts: Texts) -> Tensor:
        """Means over the local prompts."""
        return self.cosines(self.encode_images(images), texts)[1].mean(dim=2)


KEYS = {
    "VARIANT": Key("paper", "release: its draws, underscores in class names", one_of("paper", "release")),
    "N_GLOBAL_PROMPTS": Key(4, "N_g", at_least(1)),
    "N_LOCAL_PROMPTS": Key(4, "N_l", at_least(1)),
    "TOPK": Key((5, 10, 15, 20), "k, patches of each local prompt, or of all; as many as there are", TOPK),
    "GLOBAL_DROPOUT_P": Key(0.75, "share of the global prompts that an image leaves out in training", share),
    "LEARN_GLOBAL_PROMPT": Key(True, "False: one global prompt, of words"),
    "LEARN_LOCAL_PROMPTS": Key(True, "False: patches are compared with the global prompts"),
    "LEARN_LOCAL_PROJ": Key(True, "whether patches go through a linear map of their own"),
    "USE_GLOBAL_LOSS": Key(True, "whether the global prompts' loss counts"),
    "USE_LOCAL_LOSS": Key(True, "whether the local prompts' loss counts"),
    "PREC": Key("amp", PREC.what, PREC.allowed),
}


@TRAINER_REGISTRY.register()
class GalLoP(PromptTrainer):
    model_class = GalLoPModel
    model_name = "gallop_vit_b16"
    section = "GALLOP"
    keys = KEYS
    released_as = {"GalLoP": Release("GALLOP", settings={"VARIANT": "release"}, only={})}
