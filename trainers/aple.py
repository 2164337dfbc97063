"""APLe: token-wise adaptive multi-modal prompt learning (Cao et al., arXiv 2401.06827).

Independent prompts in both towers, trained one after the other and then together:

    stage I   token-wise knowledge training: the language prompts, then the vision prompts, each alone, with zero-shot
              CLIP as guide: L = CE + lambda KL(p_zs || p)
    stage II  multi-modal token adaptation: both, L = CE

and an image adapter in front of the image tower (see image_adapter), in training and in testing.

A reconstruction: no code is public and the text leaves choices open. Each is an option here:

    how stages alternate            SCHEDULE     phase (SHARES of the epochs), epoch or batch (round robin)
    how long each stage lasts       SHARES       a third of the epochs each
    which modality begins           ORDER        language
    weight of the guidance          LAMBDA       1
    temperature of the guidance     TEMPERATURE  1, of both distributions, with the loss scaled by its square
    adapter                         SIGMA, ALPHA 0.05 cycles per pixel, 0.9

Fixed choices: a modality that is not trained stays at its current value; the guide sees the adapted image and the data
set's own template; the learning rate follows one cosine over all stages; a parameter's momentum waits while it is
frozen.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP, Changes, TextPrompts
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Allowed, Key, above, at_least, one_of, share

from .image_adapter import ImageAdapter
from .ivlp import IVLP, IVLPModel

#: Stage -> what it trains.
STAGES = {"language": ("language",), "vision": ("vision",), "both": ("language", "vision")}
SCHEDULES = ("phase", "epoch", "batch")
#: The modality that stage I begins with -> the stages in order.
ORDERS = {"language": ("language", "vision", "both"), "vision": ("vision", "language", "both")}
_three = "three that are not negative and add up to 1"
SHARES = Allowed(
    lambda shares: len(shares) == 3 and min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6,
    f"{_three} are needed",
    _three,
)


class APLeModel(IVLPModel):
    """Free prompts in both towers, the adapter, and zero-shot CLIP as guide. ``stage`` decides what is trained."""

    section = "APLE"
    zeroshot_guides = True

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.options = cfg.TRAINER.APLE
        self.adapter = ImageAdapter(self.options.SIGMA, self.options.ALPHA)
        self.zeroshot = self.zeroshot_texts([template])
        self.stage = "both"

    def text_prompts(self) -> TextPrompts:
        prompts, trained = super().text_prompts(), "language" in STAGES[self.stage]
        return prompts if trained else replace(prompts, root=prompts.root.detach())

    def text_changes(self) -> Changes:
        changes = super().text_changes()
        return changes if "language" in STAGES[self.stage] else changes.map(Tensor.detach)

    def image_changes(self) -> Changes:
        changes = super().image_changes()
        return changes if "vision" in STAGES[self.stage] else changes.map(Tensor.detach)

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(self.adapter(images))

    def local_features(self, images: Tensor) -> Tensor:
        return super().local_features(self.adapter(images))

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = super().loss(images, labels)
        if self.stage != "both":
            t = self.options.TEMPERATURE
            guide = self.clip.image(self.adapter(images)).summary[:, 0]
            guide = self.scaled_cosines(guide, self.of_classes(self.zeroshot))
            p, p_zs = F.log_softmax(logits / t, dim=-1), F.log_softmax(guide / t, dim=-1)
            loss = loss + self.options.LAMBDA * t**2 * F.kl_div(
                p, p_zs, reduction="batchmean", log_target=True
            )
        return loss, logits


@TRAINER_REGISTRY.register()
class APLe(IVLP):
    """The stage is a function of epoch and batch alone, so a resumed run continues in it."""

    model_class = APLeModel
    model_name = "prompt_learner"
    section = "APLE"
    disclosures = ("reconstruction",)
    keys = IVLP.keys | {
        "N_CTX_VISION": Key(2, "n_v, visual tokens", at_least(1)),
        "PROMPT_DEPTH_VISION": Key(9, "D_v", at_least(1)),
        "SIGMA": Key(0.05, "of the adapter's Gaussian, in cycles per pixel", above(0)),
        "ALPHA": Key(0.9, "share of the image itself behind the adapter", share),
        "LAMBDA": Key(1.0, "weight of the zero-shot guidance in stage I", at_least(0)),
        "TEMPERATURE": Key(1.0, "of the guidance", above(0)),
        "SCHEDULE": Key(
            "phase", "how stages alternate: one after the other, or in turns", one_of(*SCHEDULES)
        ),
        "ORDER": Key("language", "which modality stage I begins with", one_of(*ORDERS)),
        "SHARES": Key((1 / 3, 1 / 3, 1 / 3), "of the epochs (phase): first modality, second, both", SHARES),
    }

    def build_model(self) -> None:
        options = self.cfg.TRAINER.APLE
        self.stages = ORDERS[options.ORDER]
        self.ends = phase_ends(options.SHARES, self.max_epoch)
        for stage, start, end, part in zip(self.stages, [0, *self.ends], self.ends, options.SHARES):
            if options.SCHEDULE == "phase" and start == end and part > 0:
                print(
                    f"Warning: of {self.max_epoch} epochs (OPTIM.MAX_EPOCH) none is left for the stage {stage!r}"
                )
        super().build_model()

    def stage(self) -> str:
        """The stage of the current epoch and batch."""
        schedule = self.cfg.TRAINER.APLE.SCHEDULE
        if schedule == "phase":
            return self.stages[sum(self.epoch >= end for end in self.ends[:-1])]
        step = self.epoch if schedule == "epoch" else self.epoch * self.num_batches + self.batch_idx
        return self.stages[step % len(self.stages)]

    def before_epoch(self) -> None:
        super().before_epoch()
        options = self.cfg.TRAINER.APLE
        if options.SCHEDULE == "batch":
            print(f"APLe: batches take turns: {', '.join(self.stages)}")
            return
        self.batch_idx = 0
        stage = self.stage()
        frozen = [modality for modality in STAGES["both"] if modality not in STAGES[stage]]
        share = "every third epoch"
        if options.SCHEDULE == "phase":
            index = self.stages.index(stage)
            share = f"epochs {[0, *self.ends][index] + 1} to {self.ends[index]} of {self.max_epoch}"
        kind = "stage II" if stage == "both" else "stage I"
        print(
            f"APLe: {kind}, trains {' and '.join(STAGES[stage])} ({share}), frozen: {', '.join(frozen) or 'nothing'}"
        )

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        self.model.stage = self.stage()
        self.write_scalar(
            "train/stage", self.stages.index(self.model.stage), self.epoch * self.num_batches + self.batch_idx
        )
        return super().forward_backward(batch)


def phase_ends(shares: tuple[float, ...], epochs: int) -> list[int]:
    """The epoch at which each stage ends."""
    return [round(epochs * sum(shares[: i + 1])) for i in range(3)]
