"""2SFS: rethinking few-shot adaptation of vision-language models in two stages (Farina et al., CVPR 2025).

A budget of steps is divided (section 4):

    stage I   N_ITERS_FRAC of it: a few weights of both towers (PEFT), every class text encoded anew; L = CE
    stage II  the rest: the towers stay as they are, and a classifier (C, d) learns that starts at their texts; L = CE

with CLIP's scaled cosines, "a photo of a <class>." for all data sets, and for each stage a new optimiser, schedule and
pass over the images. Tested is a class that was trained by its row of the classifier, any other by its text
("selective inference"): the method is told which half of the classes is which.

    PEFT ln      the norms' weights and biases      LN_MODALITY, LN_VISION_START, LN_TEXT_START
    PEFT bitfit  the biases of layers and norms     ENCODER, LN_VISION_START, LN_TEXT_START
    PEFT lora    additions of low rank (see lora)   ENCODER, and their own

``VARIANT: release`` does what the authors' code does: ln_pre, ln_post and ln_final are given to the optimiser and stay
as they are; bitfit leaves out the packed bias of q, k and v; lora's dropout goes on in stage II, and without dropout it
has CLIP-LoRA's gradients. Stages end with an epoch here, there with a step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, Changes, ImageTower, TextTower
from clip.weights import PLACES
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, one_of, share

from . import lora
from .base import PREC, PromptTrainer
from .checkpoint import EXTRA
from .release import Release
from .tuned_towers import ENCODERS, TunedTowerModel
from .unit import unit

PEFTS = ("ln", "bitfit", "lora")
#: What is learned of a block, by PEFT and VARIANT.
OF_A_BLOCK = {
    "ln": [f"{norm}.{part}" for norm in ("ln_1", "ln_2") for part in ("weight", "bias")],
    "bitfit": [f"{layer}.bias" for layer in ("o", "fc", "proj", "ln_1", "ln_2")],
}
#: Norms in front of the first block and behind the last.
NORMS = {"vision": ("ln_pre", "ln_post"), "text": (None, "ln_final")}


class TwoStageModel(TunedTowerModel):
    """What PEFT tunes, and the classifier (C, d), all zeros until it starts."""

    released_without = ("classifier",)

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        options = cfg.TRAINER.TWOSFS
        key = "LN_MODALITY" if options.PEFT == "ln" else "ENCODER"
        super().__init__(cfg, clip, classnames, template, key, options[key])
        self.is_released = options.VARIANT == "release"
        if options.PEFT == "lora":
            self.tuned: Any = lora.Additions(clip, self.towers, options)
            self.released = self.tuned.released("tuned")
        else:
            self.tuned = nn.ParameterDict()
            self.released = {}
            self.places: dict[str, dict[str, str]] = {"vision": {}, "text": {}}
            for kind in self.towers:
                self._tune(kind, options)
        self.classifier = nn.Parameter(torch.zeros(len(classnames), clip.joint_width))
        self.enter([])

    def _tune(self, kind: str, options: CfgNode) -> None:
        """Make the weights of one tower parameters."""
        tower: ImageTower | TextTower = self.clip.image if kind == "vision" else self.clip.text
        key = f"LN_{kind.upper()}_START"
        if options[key] >= tower.depth:
            raise ValueError(f"{key} is {options[key]}, {self.clip.name} has blocks 0 to {tower.depth - 1}")
        for name in names_of(kind, options.PEFT, range(options[key], tower.depth), self.is_released):
            ours = f"{kind}_{name.replace('.', '_')}"
            self.tuned[ours] = nn.Parameter(tower.weight(name).clone())
            self.places[kind][name] = ours
            self.released[f"tuned.{ours}"] = ("visual." if kind == "vision" else "") + in_clip(name)

    def enter(self, classes: Sequence[str]) -> None:
        """Stage II, with rows for these classes; without any stage I."""
        self.about["classifier_of"] = list(classes)
        self.stage = 2 if classes else 1

    def start_classifier(self, texts: Tensor) -> None:
        """At the texts (C, d) of all classes."""
        self.classifier.data.copy_(unit(texts))
        self.enter(self.about["class_names"])

    def changes(self, kind: str) -> Changes:
        if isinstance(self.tuned, lora.Additions):
            dropping = self.training and (self.stage == 1 or self.is_released)
            weights: Mapping[str, Any] = self.tuned.weights(kind, dropping, self.is_released)
        else:
            weights = {name: self.tuned[ours] for name, ours in self.places[kind].items()}
        changes = Changes(weights=weights)
        return changes if self.stage == 1 else changes.map(Tensor.detach)

    def text_changes(self) -> Changes:
        return self.changes("text")

    def image_changes(self) -> Changes:
        return self.changes("vision")

    def encode_texts(self) -> Tensor:
        if self.stage == 1:
            return super().encode_texts()
        rows = self.of_classes(self.classifier)
        names, learned = self.about["class_names"], set(self.about["classifier_of"])
        classes = self.class_texts.classes
        scored = names if classes is None else [names[number] for number in classes.tolist()]
        has_row = [name in learned for name in scored]
        if self.training or all(has_row):
            return rows
        own = torch.tensor(has_row, device=rows.device)[:, None]
        return torch.where(own, unit(rows), unit(super().encode_texts()))

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of another list of classes the rows of those that are here, too."""
        said, rows = state.get(EXTRA, {}), state.get("classifier")
        here, there = self.about["class_names"], said.get("class_names", [])
        learned = set(said.get("classifier_of", ())) & set(there)
        self.enter([name for name in here if name in learned])
        if (
            here == there
            or not isinstance(rows, Tensor)
            or rows.shape != (len(there), *self.classifier.shape[1:])
        ):
            return state
        own = torch.zeros_like(self.classifier.data)
        for number, name in enumerate(here):
            if name in learned:
                own[number] = rows[there.index(name)]
        return {**state, "classifier": own}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.enter(state["classifier_of"])


def names_of(kind: str, peft: str, blocks: range, released: bool) -> list[str]:
    """The weights of a tower that are tuned."""
    places = OF_A_BLOCK[peft] + (["qkv.bias"] if peft == "bitfit" and not released else [])
    names = [f"blocks.{block}.{place}" for block in blocks for place in places]
    first, last = NORMS[kind]
    outside = [norm for norm, there in ((first, blocks.start == 0), (last, True)) if norm and there]
    if peft == "ln" and released:
        return names
    parts = ("weight", "bias") if peft == "ln" else ("bias",)
    return names + [f"{norm}.{part}" for norm in outside for part in parts]


def in_clip(name: str) -> str:
    """A weight's name in the state dict of a tower."""
    if not name.startswith("blocks."):
        return name
    _, block, place = name.split(".", 2)
    return f"transformer.resblocks.{block}.{PLACES[place]}"


@TRAINER_REGISTRY.register()
class TwoStageFewShot(PromptTrainer):
    """The stage is one of the epoch, so a resumed run continues in it."""

    model: TwoStageModel
    model_class = TwoStageModel
    model_name = "clip"
    section = "TWOSFS"
    disclosures = ("told_half",)
    keys = {
        "VARIANT": Key(
            "paper", "release: fewer norms and biases, see trainers/twosfs.py", one_of("paper", "release")
        ),
        "PEFT": Key("ln", "what stage I tunes: norms, biases, or additions of low rank", one_of(*PEFTS)),
        "N_ITERS_FRAC": Key(0.6, "share of the epochs that stage I has", share),
        "LN_MODALITY": Key("both", "ln: which towers are tuned", one_of(*ENCODERS)),
        "LN_VISION_START": Key(0, "ln, bitfit: the first image block that is tuned, from 0 on", at_least(0)),
        "LN_TEXT_START": Key(0, "ln, bitfit: the first text block that is tuned, from 0 on", at_least(0)),
        "ENCODER": Key("both", "bitfit, lora: which towers are tuned", one_of(*ENCODERS)),
        **{name: Key(key.default, f"lora: {key.what}", key.allowed) for name, key in lora.KEYS.items()},
        "PREC": PREC,
    }
    released_as = {"TwoStageFewShot": Release("TWOSFS", {"VARIANT": "release"}, only={})}

    def build_model(self) -> None:
        super().build_model()
        lengths = {"I": self.first_stage, "II": self.max_epoch - self.first_stage}
        for stage, epochs in lengths.items():
            if not epochs and 0 < self.cfg.TRAINER.TWOSFS.N_ITERS_FRAC < 1:
                print(f"Warning: of {self.max_epoch} epochs (OPTIM.MAX_EPOCH) none is left for stage {stage}")

    @property
    def first_stage(self) -> int:
        """Epochs of stage I."""
        return round(self.cfg.TRAINER.TWOSFS.N_ITERS_FRAC * self.max_epoch)

    def stage_ends(self) -> list[int]:
        return [self.first_stage, self.max_epoch]

    def before_epoch(self) -> None:
        super().before_epoch()
        model, first = self.model, self.first_stage
        if self.epoch < first:
            model.enter([])
            what = f"{self.cfg.TRAINER.TWOSFS.PEFT}, {' and '.join(model.towers)}"
            print(f"2SFS: stage I, trains {what} (epochs 1 to {first} of {self.max_epoch})")
            return
        if model.stage == 1:
            self.set_model_mode("eval")
            with torch.no_grad(), self.autocast():
                model.start_classifier(model.encode_texts())
        print(
            f"2SFS: stage II, trains the classifier (epochs {first + 1} to {self.max_epoch} of {self.max_epoch})"
        )
