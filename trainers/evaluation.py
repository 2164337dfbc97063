"""Scores images against all classes: what does not depend on the images is computed once per model state.

With ``TEST.CLASS_CHUNK`` classes are scored chunk after chunk and only the best are kept, with running sums for the
probabilities of all: no tensor, and no method that encodes texts for each image, ever holds more than a chunk of them
beside the texts themselves.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from foundation.keys.of_all_runs import of

from .captured import Captured
from .prompt_model import PromptModel
from .top_classes import TopClasses


class Evaluation:
    """Scores images with one state of a model; when its parameters change, make a new Evaluation.

    Args:
        model: the method's.
        n_classes: C.
        chunk: classes that are scored at once; 0: all C.
        k: number of best classes that are kept of each image, where ``chunk`` is not 0.
        captured: the caller of what a GPU may capture as a graph.
        powers: of the sums that are kept with them, see TopClasses.
    """

    def __init__(
        self,
        model: PromptModel,
        n_classes: int,
        chunk: int = 0,
        k: int = 1,
        captured: Captured | None = None,
        powers: Sequence[float] = (),
    ) -> None:
        self.model, self.n_classes, self.chunk, self.k = model, n_classes, chunk, k
        self.powers = powers
        self.captured = captured or Captured()
        #: (classes, classes on the device, encoded texts) of each chunk; classes are None where there are no chunks
        self._texts: list[tuple[Tensor | None, Tensor | None, Any]] = []

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor | TopClasses:
        """Images (B, 3, H, W) -> logits (B, C); with ``chunk`` the k best classes (B, k) and their logits.

        Args:
            labels: (B,) their classes, where these are known; of use with ``chunk`` alone.
        """
        model = self.model
        if not self._texts:
            model.keep_image_changes()
            indices = torch.arange(self.n_classes).split(self.chunk) if self.chunk else [None]
            on_device = [None if classes is None else classes.to(images.device) for classes in indices]
            self._texts = list(zip(indices, on_device, map(self._encode, indices)))
            model.class_texts.classes = None
        known = (labels,) if self.chunk and labels is not None else ()
        return self.captured(self._scores, images, *known)

    def _scores(self, images: Tensor, labels: Tensor | None = None) -> Tensor | TopClasses:
        """With the texts that are encoded."""
        model = self.model
        encoded = model.encode_images(images)
        best = TopClasses.none(len(images), images.device, len(self.powers), labels is not None)
        for classes, on_device, texts in self._texts:
            model.class_texts.classes = classes
            logits = model.score(encoded, texts)
            if on_device is None:
                return logits
            best = best.with_chunk(logits, on_device, self.k, self.powers, labels)
        model.class_texts.classes = None
        return best

    def _encode(self, classes: Tensor | None) -> Any:
        self.model.class_texts.classes = classes
        return self.model.encode_texts()


def class_chunk(cfg: CfgNode) -> int:
    """``TEST.CLASS_CHUNK``.

    Raises:
        ValueError: the evaluator may want the logits of all classes.
    """
    size, evaluator = of(cfg, "TEST.CLASS_CHUNK"), cfg.TEST.EVALUATOR
    if size and evaluator != "Classification":
        raise ValueError(
            f"TEST.CLASS_CHUNK is {size}, of chunks only the best classes are known, and TEST.EVALUATOR {evaluator} "
            "may need the logits of all: choose Classification, or 0"
        )
    return size
