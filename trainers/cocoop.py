"""CoCoOp: conditional prompt learning (Zhou et al., CVPR 2022).

CoOp's context plus a bias that a small network, the meta-net, computes from the image feature (section 3.2): every
image has its own context, and so its own class texts.
"""

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least

from .base import PREC, PromptTrainer
from .prompt_model import PromptModel
from .text_context import TextContext
from .unit import unit

CHUNK = 2**15  #: text tokens that are encoded at once; bounds the memory, not the batch


class CoCoOpModel(PromptModel):
    """n context tokens (n, w), and the meta-net d -> d / 16 -> w."""

    released = {"context.ctx": "ctx", "meta_net": "meta_net"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.COCOOP
        words = options.CTX_INIT.replace("_", " ")
        self.context = TextContext(clip, classnames, len(words.split()) or options.N_CTX, init=words)
        d = clip.joint_width
        layers = {
            "linear1": nn.Linear(d, d // 16),
            "relu": nn.ReLU(inplace=True),
            "linear2": nn.Linear(d // 16, clip.text.width),
        }
        self.meta_net = nn.Sequential(OrderedDict(layers))

    def encode_texts(self) -> None:
        """Class texts depend on the image; ``score`` encodes them."""

    def score(self, images: Tensor, texts: None) -> Tensor:
        features = unit(images)
        contexts = self._contexts(features)
        branches = self.of_classes(torch.tensor(self.context.layout.branches))
        tokens = len(self.context.root_frozen[0]) + sum(branches.tolist())
        chunks = list(zip(features.split(size := max(1, CHUNK // tokens)), contexts.split(size)))
        if torch.is_grad_enabled() and len(chunks) > 1:  # keep one chunk's activations at a time
            once_more = partial(checkpoint, self._score_some, use_reentrant=False, preserve_rng_state=False)
            return torch.cat([once_more(*chunk) for chunk in chunks])
        return torch.cat([self._score_some(*chunk) for chunk in chunks])

    def _score_some(self, features: Tensor, contexts: Tensor) -> Tensor:
        return self.scaled_cosines(features, self._texts(contexts))

    def local_cosines(self, images: Tensor, texts: None) -> Tensor:
        """With each image's own class texts."""
        own = self._texts(self._contexts(unit(self.encode_images(images))))
        return torch.einsum("bpd,cbd->bcp", unit(self.local_features(images)[:, 0]), unit(own))

    def _contexts(self, features: Tensor) -> Tensor:
        """(B, n, w) of unit image features."""
        return self.context.ctx + self.meta_net(features)[:, None]

    def _texts(self, contexts: Tensor) -> Tensor:
        """(C, B, d) class texts of contexts (B, n, w)."""
        return self.clip.text(self.class_texts.prompts_of_classes(self.context.for_images(contexts))).summary


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    model_class = CoCoOpModel
    section = "COCOOP"
    keys = {
        "N_CTX": Key(16, "number of context tokens", at_least(1)),
        "CTX_INIT": Key("", "initial words; they decide the number of tokens"),
        "PREC": PREC,
    }
