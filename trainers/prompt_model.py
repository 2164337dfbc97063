"""What every method is: parameters, a forward pass, a loss, around a frozen CLIP."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP


class PromptModel(nn.Module):
    """A method's learnable parameters and how they turn images and texts into logits.

    The frozen CLIP is not a sub-module: the state dict holds only what is learned. A subclass defines ``encode_texts``
    and ``logits``, and ``loss`` where it is more than cross-entropy.

    Args:
        cfg: the run's configuration.
        clip: the backbone, on its device.
        classnames: C names.
        template: the data set's prompt, "a photo of a {}.".
    """

    clip: CLIP

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__()
        self.__dict__["clip"] = clip
        self.about = {"backbone": clip.name, "backbone_hash": clip.hash, "classes": len(classnames)}

    def encode_texts(self) -> Any:
        """All that ``logits`` needs of the class texts; evaluation computes it once per model state."""
        raise NotImplementedError

    def logits(self, images: Tensor, texts: Any) -> Tensor:
        """(B, C) from images (B, 3, H, W)."""
        raise NotImplementedError

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss and the logits (B, C) that it comes from."""
        logits = self.logits(images, self.encode_texts())
        return F.cross_entropy(logits, labels), logits

    def scaled_cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """CLIP's logits: exp(logit_scale) times the cosines of features (B, d) and (C, d), in fp32."""
        images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        return self.clip.logit_scale.exp() * images @ texts.T

    def released_names(self) -> dict[str, str]:
        """Our name -> the release's, for each learnable parameter of the method's released checkpoints."""
        return {}

    # torch keeps these in the state dict beside the parameters, whatever engine writes the checkpoint
    def get_extra_state(self) -> dict[str, Any]:
        return self.about

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore; trainers.checkpoint compares it before it loads."""
