"""TaskRes: task residual for tuning vision-language models (Yu et al., CVPR 2023, arXiv 2211.10277).

The classifier is CLIP's class texts t, not normalised, plus a learned residual x for each class: t + alpha x (eq. 3),
compared by CLIP's scaled cosines. So alpha's meaning depends on the norm of CLIP's features.

The enhanced base is the same text tower with another text projection, tuned beforehand: ENHANCED_BASE names its file.

``release``: class names enter the template with their underscores, which the tokenizer reads as such, so that for such
names the base is not the zero-shot text of all others. Not reproduced: the release lists ImageNet's last template twice
when it builds a second model, and ignores ENHANCED_BASE in other precisions than fp16.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint
from foundation.errors import MissingFile, WrongInput
from foundation.keys import Key, above

from .base import PREC
from .heads import PASSES, VARIANT, HeadModel, HeadTrainer
from .release import Release
from .templates import SELECTED

ENHANCED = "TRAINER.TaskRes.ENHANCED_BASE"


class TaskResModel(HeadModel):
    """A residual (C, d), zero at the start, and the base (C, d)."""

    released = {"residual": "text_feature_residuals", "base": "base_text_features"}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.TaskRes
        self.scale = options.RESIDUAL_SCALE
        templates = [*SELECTED, template] if cfg.DATASET.NAME == "ImageNet" else [template]
        base = self.base_texts(templates, options.VARIANT)
        self.file = "" if options.ENHANCED_BASE == "none" else options.ENHANCED_BASE
        self.lacks_file = bool(self.file) and not Path(self.file).is_file()
        if self.file and not self.lacks_file:  # in checkpoints, too: whoever uses them lacks the file
            self.register_buffer("base", projected_anew(base, clip, self.file))
        else:
            self.base = base
        self.residual = nn.Parameter(torch.zeros_like(base))
        self.fits_these_classes_only()

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        if "base" in state and "base" not in self.state_dict():  # enhanced, and the file is not here
            del self.base
            self.register_buffer("base", state["base"].to(self.residual))
            self.base_is_taken = True
        return super().take(state)

    def encode_texts(self) -> Tensor:
        if self.lacks_file and not self.base_is_taken:  # a release's checkpoint brings its base
            raise MissingFile(f"{ENHANCED} {self.file}: there is no such file")
        return self.of_classes(self.base + self.scale * self.residual)


def projected_anew(texts: Tensor, clip: CLIP, file: str) -> Tensor:
    """(C, d) of text features (C, d) under the text projection in ``file``, the weight (d, w) of a linear layer.

    What enters the projection is found from what left it: CLIP's has as many columns as rows, or more.

    Raises:
        ValueError: the file holds no such weight.
    """
    held = load_checkpoint(file)
    weight = held.get("weight") if isinstance(held, Mapping) else held
    projection = clip.text.text_projection
    before = projection.weight.T if isinstance(projection, nn.Linear) else projection
    if not isinstance(weight, Tensor) or weight.T.shape != before.shape:
        raise WrongInput(f"{ENHANCED} {file} holds no text projection of shape {tuple(before.T.shape)}")
    states = texts.double() @ torch.linalg.pinv(before.double())
    return (states @ weight.T.to(states)).to(texts.dtype)


@TRAINER_REGISTRY.register()
class TaskRes(HeadTrainer):
    model_class = TaskResModel
    section = "TaskRes"
    keys = {
        "VARIANT": VARIANT,
        "RESIDUAL_SCALE": Key(0.5, "alpha, scale of the residual", above(0)),
        "ENHANCED_BASE": Key("none", "file of a tuned text projection for the base", is_path=True),
        "PASSES": PASSES,
        "PREC": PREC,
    }
    released_as = {"TaskRes": Release("TaskRes", settings={"VARIANT": "release", "PASSES": 0}, only={})}
