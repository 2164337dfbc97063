"""CLIP with weights that a method changes in one tower or both, and "a photo of a <class>." for all data sets."""

from torch import Tensor
from yacs.config import CfgNode

from clip import CLIP

from .fixed_texts import FixedTextModel, FixedTexts

TEMPLATE = "a photo of a {}."
#: What a method's key says -> the towers whose weights change.
ENCODERS = {"both": ("vision", "text"), "vision": ("vision",), "text": ("text",)}


class TunedTowerModel(FixedTextModel):
    """``towers`` are those whose weights change; the texts of a text tower that stays as it is are zero-shot ones.

    Args:
        key: the name of the method's key that says which towers, for the error.
        encoder: its value, of ``ENCODERS``.

    Raises:
        ValueError: the image tower is to change, and is no plain ViT.
    """

    def __init__(
        self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str, key: str, encoder: str
    ) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.towers = ENCODERS[encoder]
        if "vision" in self.towers and clip.image.obstacle is not None:
            raise ValueError(
                f"{key} is {encoder!r}, the image tower of MODEL.BACKBONE.NAME {clip.name!r} takes no changes of its "
                f"weights, a plain ViT does: it is {clip.image.obstacle}; choose text"
            )
        self.texts = FixedTexts(clip, TEMPLATE, classnames)
        if "text" not in self.towers:
            self.frozen_texts = self.zeroshot_texts([TEMPLATE])

    def encode_texts(self) -> Tensor:
        return super().encode_texts() if "text" in self.towers else self.of_classes(self.frozen_texts)
