"""A loaded CLIP: two frozen, promptable towers and the temperature."""

import hashlib
from typing import Any

from torch import Tensor, nn

from .catalogue import Preprocess
from .image_tower import ImageTower
from .precision import PRECISIONS, cast
from .text_tower import TextTower


class CLIP(nn.Module):
    """Frozen towers of one open_clip model.

    Attributes:
        name: as the user wrote it.
        hash: sha256 over names and fp32 values of all weights, first 16 hex digits; the same weights give the same
            hash whatever file they came from and whatever precision they run in.
        image: ImageTower.
        text: TextTower.
        logit_scale: scalar, the logarithm of the inverse temperature.
        activation: of the text tower, "QuickGELU" or "GELU".
        preprocess: what images went through in training, None where that is not known.
    """

    activation: str = ""
    preprocess: Preprocess | None = None

    def __init__(self, model: Any, name: str, precision: str = "fp32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown, choose from: {', '.join(PRECISIONS)}")
        self.name = name
        self.hash = _hash(model)
        model.requires_grad_(False).eval()
        cast(model, PRECISIONS[precision])
        stream = PRECISIONS[precision].stream
        self.image = ImageTower(model.visual, stream)
        self.text = TextTower(getattr(model, "text", model), stream)
        self.logit_scale = model.logit_scale

    @property
    def joint_width(self) -> int:
        """d, the width of the space that both towers map to."""
        projection = self.text.text_projection
        return projection.shape[1] if isinstance(projection, Tensor) else projection.out_features

    def train(self, mode: bool = True) -> "CLIP":
        """The towers stay in evaluation mode: they are frozen."""
        return super().train(False)


def _hash(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().reshape(-1).numpy())
    return digest.hexdigest()[:16]
