"""DePT: decoupled prompt tuning (Zhang et al., CVPR 2024, arXiv 2309.07439), an addition to a host.

Beside the host's prompts, whose features f (images) and t (texts) stay as they are, a probe learns what belongs to the
trained classes alone, in a space of its own: f and t, not normalised, each with a scale and a shift of its channels
(section 3.2), and on them a linear classifier (C, d). With CE_host of the host's logits,

L = (1 - w) CE_host + w CE_probe, and what else is in the host's loss  (eq. 5-7)

where CE_probe is of 2 B samples, the B images and the texts of their labels. TYPE "similarity" has no classifier: its
logits are scaled cosines in that space.

Tested are (1 - w) host + w probe where the classes are among those that were trained, and the host alone elsewhere: the
method is told. The release asks a run's settings (base classes, or all of an ImageNet) and stops at an assertion where
all classes of another data set are trained. Here the names of the classes decide, which are in our checkpoints: so it
learns from few shots of all classes, too, and ImageNet's variants have their rows of the probe. Of a release's
checkpoint the names are not known, and the settings decide as there.

A host is any method whose logits compare images (B, d) with class texts (C, d), and whose loss is cross-entropy, with
what depends on the texts alone: ``dept(Host)``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from clip import CLIP
from foundation.keys import Key, above, one_of, share

from .additions import add
from .base import PromptTrainer
from .checkpoint import EXTRA
from .coop import CoOp
from .kgcoop import KgCoOp
from .maple import MaPLe
from .optimisers import Group
from .prompt_model import PromptModel
from .release import Release

LEARNER = "prompt_learner."  #: in front of the hosts' names: the release saves its whole model
UNKNOWN = ""  #: the class of a row, where a release's checkpoint does not tell it


class Channels(nn.Module):
    """A scale (d,) and a shift (d,) of features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.scale + self.bias


class Probe(nn.Module):
    """The space of images and texts, with scales and shifts if ``film``, and a classifier there if ``linear``."""

    def __init__(self, width: int, n_classes: int, linear: bool, film: bool) -> None:
        super().__init__()
        self.of_images, self.of_texts = (Channels(width) if film else nn.Identity() for _ in range(2))
        self.linear = nn.Linear(width, n_classes) if linear else None


class DePTModel(PromptModel):
    """A scale and a shift for images, another pair for texts, and a classifier (C, d) with biases (C,)."""

    rows: Tensor | None

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.options, self.dataset, self.rate = cfg.TRAINER.LINEAR_PROBE, cfg.DATASET, cfg.OPTIM.LR_EXP
        linear, film = self.options.TYPE == "linear", cfg.TRAINER.FILM.LINEAR_PROBE
        self.probe = Probe(clip.joint_width, len(classnames), linear, film)
        hosts = {name: LEARNER + theirs.removeprefix(LEARNER) for name, theirs in self.released.items()}
        self.released = hosts | {
            "probe.of_images": "film_lp_img",
            "probe.of_texts": "film_lp_text",
            "probe.linear": "linear_probe_proj",
        }
        self.released_unused = tuple(LEARNER + name for name in self.released_unused)
        self.register_buffer("rows", None, persistent=False)
        self.belong_to(classnames)

    def belong_to(self, trained: Sequence[str]) -> None:
        """Let the probe be of the classes ``trained``, a row for each. It is tested where all classes are of these."""
        names, linear = self.about["class_names"], self.probe.linear
        device = self.clip.logit_scale.device
        row = {name: number for number, name in reversed(list(enumerate(trained)))}
        self.about["probe_classes"] = list(trained)
        self.fused = all(name in row for name in names)
        some = self.fused and list(trained) != names
        self.rows = torch.tensor([row[name] for name in names], device=device) if some else None
        if linear is not None and linear.out_features != len(trained):
            self.probe.linear = nn.Linear(linear.in_features, len(trained), device=device)

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a row for each class of the checkpoint, whichever of them are here."""
        state = super().take(state)
        names, about = self.about["class_names"], state.get(EXTRA)
        if about is not None:
            self.belong_to(about["probe_classes"])
            return state
        subset, of_imagenet = self.dataset.SUBSAMPLE_CLASSES, "ImageNet" in self.dataset.NAME
        told = subset == "base" or (subset == "all" and of_imagenet)
        rows = len(state.get(self.released["probe.linear"] + ".bias", names))
        self.belong_to(names if told and rows == len(names) else [UNKNOWN] * rows)
        return state

    def groups(self) -> list[Group]:
        own = list(self.probe.parameters())
        others = [parameter for name, parameter in self.named_parameters() if not name.startswith("probe.")]
        return [Group(others), Group(own, self.rate)] if own else []

    def classified(self, linear: nn.Linear, features: Tensor) -> Tensor:
        """Logits (B, C) of features (B, d) in the probe's space."""
        weight, bias = (
            self.of_classes(part if self.rows is None else part.index_select(0, self.rows))
            for part in (linear.weight, linear.bias)
        )
        return F.linear(features, weight, bias)

    def probed(self, images: Tensor, texts: Tensor) -> Tensor:
        """The probe's logits (B, C), in fp32 under autocast too."""
        probe = self.probe
        with torch.autocast(images.device.type, enabled=False):
            images = probe.of_images(images.float())
            if probe.linear is None:
                return self.scaled_cosines(images, probe.of_texts(texts.float()))
            return self.classified(probe.linear, images)

    def probe_loss(self, probed: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of images' logits (B, C) and, with a classifier, of the texts (C, d) of their labels."""
        of_images, linear = F.cross_entropy(probed, labels), self.probe.linear
        if linear is None:
            return of_images
        with torch.autocast(probed.device.type, enabled=False):
            own = self.probe.of_texts(texts.float().index_select(0, labels))
            return (of_images + F.cross_entropy(self.classified(linear, own), labels)) / 2

    def mixed(self, similarity: Tensor, probed: Tensor) -> Tensor:
        """What is tested on trained classes."""
        return (
            torch.lerp(similarity, probed, self.options.WEIGHT) if self.options.TEST_TIME_FUSION else probed
        )

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """The host's logits (B, C)."""
        return super().score(images, texts)

    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        similarity = self.similarity(images, texts)
        return self.mixed(similarity, self.probed(images, texts)) if self.fused else similarity

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        texts, features = self.encode_texts(), self.encode_images(images)
        similarity, probed = self.similarity(features, texts), self.probed(features, texts)
        of_probe = self.probe_loss(probed, texts, labels)
        loss = torch.lerp(F.cross_entropy(similarity, labels), of_probe, self.options.WEIGHT)
        return self.regularised(loss, texts), self.mixed(similarity, probed)


KEYS = {
    "TRAINER.LINEAR_PROBE.TYPE": Key(
        "linear", "the probe: a classifier, or cosines in its space", one_of("linear", "similarity")
    ),
    "TRAINER.LINEAR_PROBE.WEIGHT": Key(0.7, "w, share of the probe", share),
    "TRAINER.LINEAR_PROBE.TEST_TIME_FUSION": Key(True, "test both; False: the probe alone"),
    "TRAINER.FILM.LINEAR_PROBE": Key(True, "scale and shift in front of the probe"),
    "OPTIM.LR_EXP": Key(6.5, "of DePT: the probe's learning rate, times OPTIM.LR", above(0)),
}


class DePT(PromptTrainer):
    """What is the same on all hosts."""

    disclosures = ("told_half",)

    def before_train(self) -> None:
        if not self.model.fused:
            raise ValueError(
                f"MODEL.INIT_WEIGHTS is {self.cfg.MODEL.INIT_WEIGHTS!r}, whose probe was learned for other classes "
                f"than those of {self.cfg.DATASET.NAME}: weights of the same classes are needed"
            )
        super().before_train()


def dept(host: type[PromptTrainer], **settings: Any) -> type[PromptTrainer]:
    """Register DePT on a host.

    Args:
        settings: keys of the host for which the release has another default.
    """
    release = Release(host.section, settings, only={"ALPHA": 1.0})  # its KgCoOp's, read by nobody
    return add(
        host,
        DePT,
        DePTModel,
        model_name={"prompt_learner": "PromptLearner"}.get(host.model_name, host.model_name),
        keys=host.keys | KEYS,
        released_as={f"ExtrasLinearProbe{host.__name__}": release},
    )


DePTCoOp = dept(CoOp)
DePTKgCoOp = dept(KgCoOp, W=2.0)
DePTMaPLe = dept(MaPLe)
