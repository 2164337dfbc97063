"""Tip-Adapter: training-free adaption of CLIP for few-shot classification (Zhang et al., ECCV 2022, arXiv 2207.09519).

A cache of the training images: keys, their unit features, averaged over KEY_PASSES augmented passes; values, their
labels, one-hot. With f and W the unit features of an image and of the class texts (eq. 5):

    logits = 100 f W + alpha exp(-beta (1 - f K)) V

Tip-Adapter only fills the cache. Tip-Adapter-F trains the keys, which then need not be of unit norm any more. Both then
look for the alpha and beta with which most validation images are right; without validation images SEARCH is refused.

alpha, beta and the range that is searched differ by data set in the release (SETTINGS); ALPHA and SCALES 0 are these.

``release``: of Tip-Adapter-F not the last epoch counts but the one that is best on the *test* images, ImageNet's alpha
and beta are searched on the test images, and what is reported is the better of before and after the search, again by
the test images. Not reproduced: the cache is changed by training the keys, with which it shares its memory.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, each

from .base import PREC
from .checkpoint import find_checkpoint, read_checkpoint
from .heads import PASSES, VARIANT, HeadModel, HeadTrainer
from .release import Release
from .templates import SELECTED
from .unit import unit

STEPS = (200, 20)  #: of beta and of alpha in the search
START = 0.1  #: of both


class OfDataset(NamedTuple):
    """The release's settings of a data set."""

    alpha: float
    scales: tuple[float, float]  #: upper ends of the search for beta and alpha


#: By data set; others are searched in the range that most of these have.
SETTINGS = {
    "Caltech101": OfDataset(3.0, (12.0, 5.0)),
    "DescribableTextures": OfDataset(2.0, (13.0, 13.0)),
    "EuroSAT": OfDataset(2.0, (12.0, 10.0)),
    "FGVCAircraft": OfDataset(5.0, (30.0, 30.0)),
    "Food101": OfDataset(1.17, (10.0, 10.0)),
    "ImageNet": OfDataset(1.17, (7.0, 3.0)),
    "OxfordFlowers": OfDataset(10.0, (50.0, 50.0)),
    "OxfordPets": OfDataset(1.17, (7.0, 3.0)),
    "StanfordCars": OfDataset(3.0, (20.0, 10.0)),
    "SUN397": OfDataset(1.17, (12.0, 10.0)),
    "UCF101": OfDataset(3.0, (7.0, 3.0)),
}
OTHER = OfDataset(1.17, (12.0, 10.0))


class Texts(NamedTuple):
    features: Tensor  #: (C, d), unit norm
    values: Tensor  #: (C, N), which training images are of the class


class TipAdapterModel(HeadModel):
    """Keys (d, N), values (N, C), and alpha and beta, which checkpoints hold as they were found."""

    released = {"keys": "cache_keys", "values": "cache_values"}
    released_without = ("scales",)
    keys: Tensor
    values: Tensor
    scales: Tensor

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        options = cfg.TRAINER.TIPADAPTER
        self.of_dataset = SETTINGS.get(cfg.DATASET.NAME, OTHER)
        templates = SELECTED if cfg.DATASET.NAME == "ImageNet" else [template]
        self.texts = self.zeroshot_texts(templates)
        alpha = options.ALPHA or self.of_dataset.alpha
        self.register_buffer("scales", torch.tensor([alpha, options.BETA]))
        self.register_buffer("values", torch.zeros(0, len(classnames)))
        self.make_keys(self.texts.new_zeros(self.texts.shape[1], 0))
        self.fits_these_classes_only()

    def make_keys(self, keys: Tensor) -> None:
        """A place for keys (d, N)."""
        self.register_buffer("keys", keys)

    def size(self, images: int) -> None:
        """Make room for N training images."""
        if len(self.values) != images:
            self.values = self.values.new_zeros(images, self.values.shape[1])
            self.make_keys(self.texts.new_zeros(self.texts.shape[1], images))

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        values = state.get("values", state.get("cache_values"))
        if isinstance(values, Tensor) and values.dim() == 2:
            self.size(len(values))
        return state

    @torch.no_grad()
    def fill(self, features: Tensor, labels: Tensor) -> None:
        """The cache, of features (passes, N, d) and labels (N,)."""
        self.size(len(labels))
        self.keys.copy_(self.as_keys(unit(features.mean(dim=0))))
        self.values.copy_(F.one_hot(labels, self.values.shape[1]))

    def as_keys(self, features: Tensor) -> Tensor:
        """(N, d) as the release's checkpoints hold them."""
        return features.T

    def affinity(self, features: Tensor) -> Tensor:
        """(B, N) of unit features (B, d): f K."""
        return features @ self.keys

    def encode_texts(self) -> Texts:
        return Texts(self.of_classes(self.texts), self.of_classes(self.values.T))

    def score(self, images: Tensor, texts: Texts) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            features = unit(images)
            alpha, beta = self.scales
            cached = torch.exp(-beta * (1 - self.affinity(features))) @ texts.values.T
            return 100 * features @ texts.features.T + alpha * cached

    def local_cosines(self, images: Tensor, texts: Texts) -> Tensor:
        return super().local_cosines(images, texts.features)

    @torch.no_grad()
    def search(self, images: Tensor, labels: Tensor, ends: tuple[float, float]) -> None:
        """Set the alpha and beta with which most of (N, d) features are right; of equal ones the first."""
        features, texts = unit(images), self.encode_texts()
        base, affinity, best = 100 * features @ texts.features.T, self.affinity(features), -1
        betas, alphas = ([START + i * (end - START) / n for i in range(n)] for end, n in zip(ends, STEPS))
        for beta in betas:
            cached = torch.exp(-beta * (1 - affinity)) @ texts.values.T
            for alpha in alphas:
                right = int(((base + alpha * cached).argmax(dim=1) == labels).sum())
                if right > best:
                    best, self.scales = right, torch.tensor([alpha, beta], device=labels.device)
        alpha, beta = self.scales.tolist()
        print(f"Search: alpha {alpha:.3f}, beta {beta:.3f}: {best} of {len(labels)} right")


class TipAdapterFModel(TipAdapterModel):
    """The keys are parameters (N, d)."""

    released = {"keys": "weight", "values": "cache_values"}
    released_unused = ("cache_keys",)

    def make_keys(self, keys: Tensor) -> None:
        self.keys = nn.Parameter(keys.T.contiguous())

    def as_keys(self, features: Tensor) -> Tensor:
        return features

    def affinity(self, features: Tensor) -> Tensor:
        return features @ self.keys.T


class _TipAdapters(HeadTrainer):
    """What both share: the cache is filled where training begins, and searched for where it ends."""

    section = "TIPADAPTER"
    model_name = "tip_adapter"
    disclosures = ("features_only", "set_for_dataset")
    model: Any

    def disclosed(self) -> list[str]:
        release = self.cfg.TRAINER.TIPADAPTER.VARIANT == "release"
        return [*super().disclosed(), *(["chosen_on_test"] if release else [])]

    def _build_prompts(self, towers: CLIP, classes: Any) -> Any:
        model: Any = super()._build_prompts(towers, classes)
        dataset = getattr(getattr(self, "dm", None), "dataset", None)
        model.size(len(getattr(dataset, "train_x", None) or classes.names))
        return model

    def train(self) -> None:  # type: ignore[override]
        options, cfg = self.cfg.TRAINER.TIPADAPTER, self.cfg
        if options.SEARCH and self.searched() is None:
            raise ValueError(
                f"TRAINER.TIPADAPTER.SEARCH is True, {cfg.DATASET.NAME} has no validation images to search with, and "
                "test images are not for that: choose False, with ALPHA and BETA"
            )
        if options.SEARCH and options.VARIANT == "paper" and (both := self.validation_images_tested()):
            raise ValueError(
                f"TRAINER.TIPADAPTER.SEARCH is True, and {both:,} of the validation images of {cfg.DATASET.NAME} "
                "are test images, which are not for that: choose False, with ALPHA and BETA"
            )
        if options.VARIANT == "release" and cfg.TEST.NO_TEST:
            raise ValueError(
                "TRAINER.TIPADAPTER.VARIANT is release, which chooses by test images: TEST.NO_TEST False is needed"
            )
        if options.VARIANT == "release" and cfg.TEST.FINAL_MODEL != "last_step":
            raise ValueError(
                "TRAINER.TIPADAPTER.VARIANT is release, which chooses by test images: TEST.FINAL_MODEL 'last_step' is "
                f"needed, it is {cfg.TEST.FINAL_MODEL!r}"
            )
        super().train()

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        if mode == "train" and not self.model.values.any():
            self.fill()
        super().set_model_mode(mode, names)

    def fill(self) -> None:
        key_passes = self.cfg.TRAINER.TIPADAPTER.KEY_PASSES
        features, labels = self.views(max(key_passes, self.passes()))
        self.model.fill(features[:key_passes].to(self.device), labels.to(self.device))

    def searched(self) -> Any:
        """The loader of the images that the search may see; None where there are none."""
        if self.cfg.TRAINER.TIPADAPTER.VARIANT == "release" and self.cfg.DATASET.NAME == "ImageNet":
            return self.test_loader
        return self.val_loader

    def validation_images_tested(self) -> int:
        """How many validation images are test images, too: some data sets of others have no others."""
        dataset = getattr(getattr(self, "dm", None), "dataset", None)
        parts = (getattr(dataset, part, None) or () for part in ("val", "test"))
        validation, tested = ({item.impath for item in part} for part in parts)
        return len(validation & tested)

    def search(self) -> None:
        options = self.cfg.TRAINER.TIPADAPTER
        if not options.SEARCH:
            return
        before = self.model.scales
        ends = tuple(own or theirs for own, theirs in zip(options.SCALES, self.model.of_dataset.scales))
        self.set_model_mode("eval")
        self.model.search(*(part.to(self.device) for part in self.encode(self.searched())), ends)
        if options.VARIANT == "release":
            after, self.model.scales = self.model.scales, before
            at_first = self.test(split="test")
            self.model.scales = after
            if self.test(split="test") < at_first:
                self.model.scales = before


KEYS = {
    "VARIANT": VARIANT,
    "ALPHA": Key(0.0, "alpha, weight of the cache; 0: the release's for the data set", at_least(0)),
    "BETA": Key(1.0, "beta, sharpness of the affinities", at_least(0)),
    "SEARCH": Key(True, "look for alpha and beta on the validation images, at the end"),
    "SCALES": Key(
        (0.0, 0.0), "upper ends of the search for beta and alpha; 0: the release's", each(at_least(0), 2)
    ),
    "KEY_PASSES": Key(10, "augmented passes that the keys are means of", at_least(1)),
    "PREC": PREC,
}


@TRAINER_REGISTRY.register()
class TipAdapter(_TipAdapters):
    """Nothing is trained: a run fills the cache and searches."""

    model_class = TipAdapterModel
    keys = KEYS
    released_as = {"TipAdapter": Release("TIPADAPTER", settings={"SEARCH": False}, only={})}

    def passes(self) -> int:
        return 0

    def before_train(self) -> None:
        self.max_epoch = 0  # no steps
        super().before_train()

    def after_train(self) -> None:
        self.set_model_mode("train")
        self.search()
        self.save_model(self.cfg.OPTIM.MAX_EPOCH - 1, self.output_dir)
        super().after_train()


@TRAINER_REGISTRY.register()
class TipAdapterF(_TipAdapters):
    model_class = TipAdapterFModel
    keys = KEYS | {"PASSES": PASSES}
    released_as = {"TipAdapterF": Release("TIPADAPTER", settings={"PASSES": 0, "SEARCH": False}, only={})}

    def build_model(self) -> None:
        super().build_model()
        self.best: tuple[float, Tensor] = (-1.0, self.model.keys.detach().clone())  # of ``release``

    def before_train(self) -> None:
        super().before_train()
        self.set_model_mode("train")  # fills

    def after_epoch(self) -> None:
        """The search comes before the last epoch's checkpoint is written, unless another epoch may be the best."""
        if self.cfg.TRAINER.TIPADAPTER.VARIANT == "release":
            accuracy = self.test(split="test")
            if accuracy > self.best[0]:
                self.best = accuracy, self.model.keys.detach().clone()
        if self.epoch + 1 == self.max_epoch:
            if self.best[0] >= 0:
                self.model.keys.data.copy_(self.best[1])
            if not self.chooses_epoch:
                self.search()
        super().after_epoch()

    @property
    def chooses_epoch(self) -> bool:
        """Whether validation images choose the epoch whose keys are tested."""
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST

    def after_train(self) -> None:
        """The best epoch's keys get the alpha and beta that go with them."""
        if self.chooses_epoch:
            best = find_checkpoint(self.output_dir, self.model_name, None)
            done = read_checkpoint(best)["epoch"]
            self.load_model(self.output_dir)
            self.search()
            self.save_model(done - 1, self.output_dir, val_result=self.best_result, model_name=best.name)
        super().after_train()

    def get_extra_state(self) -> dict[str, Any]:
        return {**super().get_extra_state(), "best": list(self.best)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        accuracy, keys = state["best"]
        self.best = accuracy, keys.to(self.device)
