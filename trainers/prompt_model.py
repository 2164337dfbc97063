"""What every method is: parameters, a forward pass, a loss, around a frozen CLIP."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import CLIP, NONE, Changes, TextFeatures, TextPrompts, deep_prompts

from .class_texts import ClassTexts
from .feature_cache import FeatureCache
from .matching import Matching
from .optimisers import Group
from .unit import unit
from .zeroshot_texts import WrittenTexts, mean_features


class PromptModel(nn.Module):
    """A method's learnable parameters and how they turn images and texts into logits.

    As it stands: a text context and visual prompts, cosines of the two summaries, cross-entropy. A method sets
    ``context`` (a TextContext) and overrides what it does differently.

    The frozen CLIP is not a sub-module: the state dict holds only what is learned.

    Args:
        cfg: the run's configuration.
        clip: the backbone, on its device.
        classnames: C names.
        template: the data set's prompt, "a photo of a {}.".
    """

    context: Any

    #: The score of an image depends on the others of its batch, and on which classes are scored at once.
    scores_batches = False
    #: Its ``zeroshot_texts`` are of the loss alone: what was learned is used without them.
    zeroshot_guides = False
    #: Parameters or modules -> their names in the method's released checkpoints; "name[i]" is a row of a tensor.
    released: dict[str, str] = {}
    #: What released checkpoints hold beside that and CLIP, and no one uses.
    released_unused: tuple[str, ...] = ()
    #: What this model saves and released checkpoints lack: it stays as it was built.
    released_without: tuple[str, ...] = ()
    #: What is drawn at random in a step, by its name in recordings of a release -> the method that draws it.
    draws: dict[str, str] = {}

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__()
        self._frozen = (
            clip,
        )  # a tuple: torch would take a module for a part, whose weights are saved and trained
        self.about: dict[str, Any] = {
            "backbone": clip.name,
            "backbone_hash": clip.hash,
            "class_names": list(classnames),
        }
        self.class_texts = ClassTexts(clip.text, cfg)
        self.written_texts = WrittenTexts(cfg)
        self.kept_image_changes: Changes | None = None
        self.feature_cache: FeatureCache | None = None
        self.cache_training = False  # use it in training too

    @property
    def clip(self) -> CLIP:
        """The frozen backbone."""
        return self._frozen[0]

    def fits_these_classes_only(self) -> None:
        """To be called where something is learned for each class: a checkpoint of other classes is then refused."""
        self.about["classes"] = str(len(self.about["class_names"]))

    @property
    def own_classes_only(self) -> bool:
        """Whether something is learned for each class."""
        return "classes" in self.about

    def zeroshot_texts(
        self, templates: list[str], unit_each: bool = True, unit_mean: bool = True, underscores: bool = False
    ) -> Tensor:
        """(C, d) features of all classes' texts that nobody learns: those of the user, or else ``templates``.

        Over several texts of a class the mean of their features.

        Args:
            unit_each: scale the feature of each of the method's templates to unit norm before the mean; those of the
                user's texts are, if their mean is.
            unit_mean: then scale the mean to unit norm.
            underscores: leave them in class names, which else are read with spaces.

        Raises:
            ValueError: the user gives no text of a class, or one that is longer than the text tower's context.
        """
        names, written = self.about["class_names"], self.written_texts
        texts = written.of_classes(names, templates, underscores)
        written.check_lengths(self.clip, names, texts)
        return mean_features(self.clip, texts, unit_each or (unit_mean and bool(written.given)), unit_mean)

    def text_prompts(self) -> TextPrompts:
        """What enters the text tower: R prompts for each of C classes, as R roots and C branches (see TextPrompts)."""
        return self.context()

    def text_changes(self) -> Changes:
        """What else the method changes in the text tower: here the context's deep prompts."""
        return Changes(tokens=deep_prompts(self.context.deep_prompts()))

    def image_changes(self) -> Changes:
        """What the method changes in the image tower, visual prompts for example; nothing unless a method does."""
        return NONE

    def text_features(self) -> TextFeatures:
        """``text_prompts``, encoded: summaries (C, R, d) and, where they are asked for, tokens (C, R, L, d)."""
        return self.class_texts.encode(self.text_prompts(), self.text_changes())

    def of_classes(self, rows: Tensor) -> Tensor:
        """Rows (C, ...) of all classes -> rows (S, ...) of the classes that ``text_features`` encodes.

        S = C, or the size of a training step's sample (``TRAINER.CLASS_SAMPLE``) or of a chunk (``TEST.CLASS_CHUNK``).
        """
        return self.class_texts.of_classes(rows)

    def encode_texts(self) -> Any:
        """All that ``score`` needs of the class texts; evaluation computes it once per model state. Here (C, d)."""
        return self.text_features().summary[:, 0]

    def current_image_changes(self) -> Changes:
        """``image_changes``, in an evaluation computed once."""
        return self.image_changes() if self.kept_image_changes is None else self.kept_image_changes

    def keep_image_changes(self) -> None:
        """Compute ``image_changes`` once for all images from now on: to be called where nothing is learned."""
        self.kept_image_changes = self.clip.image.merged(self.image_changes())

    def encode_images(self, images: Tensor) -> Any:
        """All that ``score`` needs of images (B, 3, H, W). Here their summaries (B, d)."""

        def encode(images: Tensor) -> Tensor:
            return self.clip.image(images, self.current_image_changes()).summary[:, 0]

        cache = None if self.training and not self.cache_training else self.feature_cache
        return encode(images) if cache is None else cache.features(images, encode)

    def leaves_images_alone(self) -> bool:
        """Whether an image's features are those of frozen CLIP, and so the same at any time."""
        return type(self).encode_images is PromptModel.encode_images and self.image_changes().none

    def score(self, images: Any, texts: Any) -> Tensor:
        """Logits (B, C) of encoded images and class texts."""
        return self.scaled_cosines(images, texts)

    def logits(self, images: Tensor, texts: Any) -> Tensor:
        """(B, C) from images (B, 3, H, W)."""
        return self.score(self.encode_images(images), texts)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss and the logits (B, C) that it comes from."""
        texts = self.encode_texts()
        logits = self.logits(images, texts)
        return self.regularised(F.cross_entropy(logits, labels), texts), logits

    def regularised(self, loss: Tensor, texts: Any) -> Tensor:
        """The loss with what a method adds to it that depends on the encoded class texts alone; nothing, as here."""
        return loss

    def matching(self, images: Any, texts: Any, classes: Tensor) -> Matching | None:
        """The plans by which ``score`` matches parts of encoded images with parts of class texts, opened up.

        Args:
            images, texts: as ``score`` takes them.
            classes: (K,) those whose token plans are wanted.

        None, as here: it compares summaries, nothing is matched.
        """
        return None

    def words(self, label: int) -> list[list[str]]:
        """What ``matching`` has as parts of a class's text, readable: a list for each text prompt."""
        return self.context.words(label)

    def local_features(self, images: Tensor) -> Tensor:
        """(B, M, P, d) of images (B, 3, H, W): each output token of the image tower (patches, then visual prompts)
        through the final norm and projection, as the class token goes.

        Raises:
            ValueError: the image tower has none.
        """
        tokens = self.clip.image(images, self.current_image_changes(), tokens=True).tokens
        assert tokens is not None
        return tokens

    def local_cosines(self, images: Tensor, texts: Any) -> Tensor:
        """(B, C, P): of local features with class texts. ``score`` uses no such thing; it is a way to look at them."""
        local = unit(self.local_features(images))
        return torch.einsum("bmpd,cd->bcp", local, unit(texts)) / local.shape[1]

    def inverse_temperature(self) -> Tensor:
        """What cosines are multiplied with: CLIP's own, exp(logit_scale), unless a method has another."""
        return self.clip.logit_scale.exp()

    def scaled_cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """CLIP's logits: ``inverse_temperature`` times cosines, in fp32 under autocast too.

        Args:
            images: features (B, d).
            texts: features (C, d), or (C, B, d) where each image has its own.
        """
        pairs = "bd,cd->bc" if texts.dim() == 2 else "bd,cbd->bc"
        with torch.autocast(images.device.type, enabled=False):
            return self.inverse_temperature() * torch.einsum(pairs, unit(images), unit(texts))

    def groups(self) -> list[Group]:
        """Parameters that learn at rates of their own, each in one group; none, as here: all at OPTIM.LR."""
        return []

    def take(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take from a checkpoint, before its parameters, what decides sizes or what a release keeps beside them.

        Returns:
            what is then loaded, the checkpoint itself.
        """
        return state

    def released_names(self) -> dict[str, str]:
        """Our name -> the release's, for what is saved."""
        names = {}
        for name in self.state_dict():
            for ours, theirs in self.released.items():
                if name == ours or name.startswith(f"{ours}."):
                    names[name] = theirs + name.removeprefix(ours)
        return names

    # torch keeps these in the state dict beside the parameters, whatever engine writes the checkpoint
    def get_extra_state(self) -> dict[str, Any]:
        return self.about

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore; trainers.checkpoint compares it before it loads."""
