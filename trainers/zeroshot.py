"""Zero-shot CLIP (Radford et al., ICML 2021): nothing learned, one template or an ensemble of eight."""

from typing import Any

from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .prompt_model import PromptModel
from .templates import SELECTED


class ZeroshotModel(PromptModel):
    """Scaled cosines between the image and the data set's own template, "a photo of a <class>."."""

    def __init__(self, cfg: Any, clip: Any, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.texts = self.zeroshot_texts(self.templates(cfg, template))

    def templates(self, cfg: Any, template: str) -> list[str]:
        return [template]

    def encode_texts(self) -> Tensor:
        return self.of_classes(self.texts)


class EnsembleModel(ZeroshotModel):
    """Texts averaged over the seven templates that CLIP's authors selected and, except on ImageNet, the data set's."""

    def templates(self, cfg: Any, template: str) -> list[str]:
        return SELECTED + ([] if cfg.DATASET.NAME == "ImageNet" else [template])


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """There is nothing to train: a run evaluates."""

    model_class: type[PromptModel] = ZeroshotModel
    learns = False

    def precision(self) -> str:
        return "fp32"

    def train(self) -> None:  # type: ignore[override]
        print(f"{type(self).__name__} learns nothing, evaluating only")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Prompt ensembling over eight templates."""

    model_class = EnsembleModel
