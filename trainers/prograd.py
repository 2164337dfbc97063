"""ProGrad: prompt-aligned gradient (Zhu et al., ICCV 2023).

CoOp, updated only in directions that do not contradict zero-shot CLIP (section 3.2): where the gradient of the
cross-entropy and that of the divergence from zero-shot CLIP's predictions form an obtuse angle, the former loses its
component along the latter.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP, encode
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, above, at_least, one_of

from . import data_parallel
from .base import PromptTrainer
from .coop import CoOp, CoOpModel

# Where the release's templates are not CoOp's: of the teacher, and of the context that starts from them.
TEMPLATES = {
    "OxfordPets": "a type of pet, a photo of a {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "Food101": "a type of food, a photo of {}.",
    "DescribableTextures": "a texture of {}.",
}


class ProGradModel(CoOpModel):
    """CoOp's context, and zero-shot CLIP as the teacher.

    As released, CTX_INIT True starts the context from the words of the data set's template, which stand at its end,
    and from zeros in front of them.
    """

    zeroshot_guides = True

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        template = TEMPLATES.get(cfg.DATASET.NAME, template)
        if from_template(cfg.TRAINER.COOP):
            self._start_from(template.partition("{}")[0].strip(), clip)
        self.temperature = cfg.LOSS.T
        self.zeroshot = self.zeroshot_texts([template])

    def initial_words(self, options: CfgNode) -> str:
        return "" if from_template(options) or options.CTX_INIT == "False" else super().initial_words(options)

    @torch.no_grad()
    def _start_from(self, words: str, clip: CLIP) -> None:
        ids = encode(words)[: len(words.split(" "))]  # as many tokens as words, where a comma is one more
        context = self.context.ctx
        if not 0 < len(ids) <= context.shape[-2]:
            raise ValueError(
                f"N_CTX is {context.shape[-2]}, the template has {len(ids)} words in front of the class name: CTX_INIT "
                "True needs 1 to N_CTX"
            )
        context.zero_()
        context[..., context.shape[-2] - len(ids) :, :] = clip.text.embed(ids).float().to(context.device)

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy, the divergence KL (up to the teacher's entropy), and logits (B, C)."""
        features, t = self.encode_images(images), self.temperature
        logits = self.scaled_cosines(features, self.encode_texts())
        teacher = F.softmax(self.scaled_cosines(features, self.of_classes(self.zeroshot)) / t, dim=-1)
        divergence = -(teacher * F.log_softmax(logits / t, dim=-1)).sum(dim=-1).mean() * t**2
        return F.cross_entropy(logits, labels), divergence, logits


def from_template(options: CfgNode) -> bool:
    """Whether the release's switch is set."""
    return options.CTX_INIT == "True"


@TRAINER_REGISTRY.register()
class ProGrad(PromptTrainer):
    model_class = ProGradModel
    section = "COOP"
    keys = CoOp.keys | {
        "ALPHA": Key(1.0, "the release's key, which nothing reads"),
        "LOSS.NAME": Key("prograd", "the release's key; its other losses are not here", one_of("prograd")),
        "LOSS.GM": Key(False, "the release's key, which nothing reads"),
        "LOSS.ALPHA": Key(0.0, "the release's key, of another loss"),
        "LOSS.T": Key(1.0, "temperature of the divergence", above(0)),
        "LOSS.LAMBDA": Key(1.0, "share of the opposing component that is taken away", at_least(0)),
    }

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, labels = self.parse_batch_train(batch)
        with self.autocast():
            loss, divergence, logits = self.captured(self.model.losses, images, labels)
        part, summary = self.of_batch(logits, labels, loss=loss, loss_kl=divergence)
        parameters = list(self.model.parameters())
        scale = self.scaler.scale if self.scaler else (lambda value: value)
        fit = data_parallel.add_up(torch.autograd.grad(scale(loss * part), parameters, retain_graph=True))
        keep = data_parallel.add_up(
            torch.autograd.grad(scale(divergence * part), parameters)
        )  # its direction counts
        for parameter, g_fit, g_keep in zip(parameters, fit, keep):
            parameter.grad = aligned(g_fit, g_keep, self.cfg.LOSS.LAMBDA)
        self.model_update()
        self.end_step()
        return summary


def aligned(fit: Tensor, keep: Tensor, share: float) -> Tensor:
    """g - share (g . k) k with k the unit vector of ``keep``, where g . k < 0; else g = ``fit`` itself (eq. 4)."""
    direction = keep / keep.norm().clamp(min=1e-12)
    along = (fit * direction).sum()
    return fit - share * along.clamp(max=0) * direction
