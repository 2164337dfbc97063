"""Heads on features of frozen CLIP: what TaskRes, CLIP-Adapter, Tip-Adapter and CLAP share.

No tower learns anything, so all that changes an image's features is its augmentation. The features of PASSES augmented
passes over the training images are computed once; a training step then takes those of one pass, drawn at random, of
every image in its batch, and a run takes seconds. With PASSES 0 images go through the tower in every step.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from foundation.keys import Key, at_least, one_of

from . import data_parallel
from .base import PromptTrainer
from .prompt_model import PromptModel

PASSES = Key(
    10,
    "augmented passes whose features are computed once; 0: none, images are encoded in every step",
    at_least(0),
)
VARIANT = Key("paper", "as it is meant, or as the authors' code does it", one_of("paper", "release"))


class HeadModel(PromptModel):
    """``score`` compares features (B, d) of frozen CLIP, not normalised, with what the head makes of the classes."""

    base: Tensor
    base_is_taken = False
    released_unused: tuple[str, ...] = ("base_text_features",)

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, d) of images (B, 3, H, W); features stay what they are."""
        return images if images.dim() == 2 else super().encode_images(images).float()

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The texts that a release keeps in its checkpoints; here they are computed again."""
        texts = state.get("base_text_features")
        if isinstance(texts, Tensor) and texts.shape == self.base.shape:
            self.base = texts.to(self.base)
            self.base_is_taken = True
        return state

    def base_texts(self, templates: list[str], variant: str) -> Tensor:
        """(C, d) text features that a head starts from, not normalised; ``release`` leaves underscores in names."""
        underscores = variant == "release"
        return self.zeroshot_texts(templates, unit_each=False, unit_mean=False, underscores=underscores)

    def leaves_images_alone(self) -> bool:
        return True


class HeadTrainer(PromptTrainer):
    """Trains a head on features that are computed once, with the sampler, batches and epochs that images would have."""

    train_loader_x: Any
    disclosures: tuple[str, ...] = ("features_only",)

    def build_model(self) -> None:
        self._views: tuple[Tensor, Tensor] | None = None
        self.view_seed = torch.initial_seed()  #: of the augmentations of all passes
        super().build_model()

    def before_train(self) -> None:
        super().before_train()
        passes = self.passes()
        if passes:
            self.train_loader_x = FeatureLoader(*self.views(passes), self.train_loader_x.batch_sampler)

    def passes(self) -> int:
        """How many augmented passes training draws from."""
        return self.cfg.TRAINER[self.section].PASSES

    def views(self, passes: int) -> tuple[Tensor, Tensor]:
        """(passes, N, d) features of the N training images, augmented, and their labels (N,), on the CPU.

        A later call that asks for more passes computes all again; the first ones come out the same.
        """
        if self._views is None or len(self._views[0]) < passes:
            loader = self.images_in_order()
            print(f"Encoding the training images in {passes} augmented pass{'es' if passes > 1 else ''}")
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self.view_seed)
                encoded = [self.encode(loader) for _ in range(passes)]
            self._views = torch.stack([features for features, _ in encoded]), encoded[0][1]
        features, labels = self._views
        return features[:passes], labels

    def images_in_order(self) -> Iterable[dict[str, Any]]:
        """Batches of all training images, augmented, in their order."""
        return build_data_loader(
            self.cfg,
            sampler_type="SequentialSampler",
            data_source=self.dm.dataset.train_x,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(self.cfg, is_train=True),
            is_train=False,
        )

    @torch.no_grad()
    def encode(self, loader: Any) -> tuple[Tensor, Tensor]:
        """Features (N, d) and labels (N,) of all images of a loader, on the CPU of every process."""
        features, labels = [], []
        for number, batch in enumerate(loader):
            with self.autocast():
                own = self.model.encode_images(batch["img"].to(self.device)).cpu()
            parts = data_parallel.collect((own, batch["label"].cpu()))
            # Several processes take a batch each; in the last round some had none left and took one once more.
            left = 1 if len(parts) == 1 else loader.batches_of_all - number * len(parts)
            features += [part for part, _ in parts[:left]]
            labels += [part for _, part in parts[:left]]
        return torch.cat(features), torch.cat(labels)

    def get_extra_state(self) -> dict[str, Any]:
        return {"view_seed": self.view_seed}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.view_seed = state["view_seed"]


class FeatureLoader:
    """Batches of features in the place of those of images.

    Args:
        views: (passes, N, d), of which a batch has one pass for each image.
        labels: (N,).
        batches: an epoch's batches, lists of image numbers.
    """

    def __init__(self, views: Tensor, labels: Tensor, batches: Any) -> None:
        self.views, self.labels, self.batches = views, labels, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in list(self.batches):
            images, passes = torch.tensor(batch), torch.randint(len(self.views), (len(batch),))
            own = data_parallel.share(len(batch))
            images, passes = images[own.start : own.stop], passes[own.start : own.stop]
            yield {"img": self.views[passes, images], "label": self.labels[images]}
