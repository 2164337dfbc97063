"""A trained model at work: from images to the probabilities of classes."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils import read_image
from datasets.config import reading_options
from foundation.keys.of_all_runs import of

Picture = str | Path | Image.Image  #: a path, or an image in memory

MOST_PIXELS = 2**28  #: of an image whose smaller edge has been resized


class Prediction(NamedTuple):
    """The k most probable classes of an image, best first."""

    labels: list[str]
    probabilities: list[float]


class TrainedRun:
    """A method's model as its run left it.

    Attributes:
        folder: the run's.
        record: its result.json.
        cfg: its settings, but for those of runs.trained.NOT_USED.
        classnames: C names, by label.
        template: the data set's prompt.
        model: the method's PromptModel, in evaluation mode.
        preprocess: from a PIL image in RGB to a tensor (3, H, W), as in the run's evaluation.
        device: where the model is.
        batch_size: images that are scored at once, unless another number is asked for; that of the run's evaluation.
    """

    def __init__(self, folder: Path, record: dict[str, Any], trainer: Any, preprocess: Any) -> None:
        self.folder, self.record, self.preprocess = folder, record, preprocess
        self._trainer = trainer
        self.cfg: CfgNode = trainer.cfg
        self.model = trainer.model
        self.device: torch.device = trainer.device
        classes = trainer.classes()
        self.classnames, self.template = classes.names, classes.template
        self.batch_size: int = self.cfg.DATALOADER.TEST.BATCH_SIZE
        self._reading = reading_options(self.cfg)
        trainer.set_model_mode("eval")

    def logits(self, images: Sequence[Picture] | Tensor, batch_size: int = 0) -> Tensor:
        """(B, C) logits in fp32, on the CPU: to the bit those of an evaluation of these images in these batches.

        PLOT and MMTPA's release variant score the images of a batch together; an image's logits then depend on its
        batch, as in their evaluation.

        Args:
            images: B paths or PIL images, or a tensor (B, 3, H, W) of preprocessed ones.
            batch_size: images that are scored at once; 0: as many as in the run's evaluation.

        Raises:
            FileNotFoundError, ValueError: an image does not exist or cannot be read.
        """
        size = batch_size or self.batch_size
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        if not batches:
            return torch.empty(0, len(self.classnames))
        with self._as_in_training():
            return torch.cat([self._logits(batch) for batch in batches])

    def predict(
        self, images: Sequence[Picture] | Tensor, k: int = 5, batch_size: int = 0
    ) -> list[Prediction]:
        """The k most probable classes of every image (all, if there are fewer), by the softmax of its logits.

        Arguments and errors are those of ``logits``.
        """
        return self.best(self.logits(images, batch_size), k)

    def best(self, logits: Tensor, k: int = 5) -> list[Prediction]:
        """The k most probable classes of logits (B, C)."""
        if k < 1:
            raise ValueError(f"the {k} best classes are asked for, at least 1 is needed")
        top = logits.softmax(dim=1).topk(min(k, len(self.classnames)), dim=1)
        return [
            Prediction([self.classnames[label] for label in labels], probabilities)
            for labels, probabilities in zip(top.indices.tolist(), top.values.tolist())
        ]

    def prepare(self, image: Picture) -> Tensor:
        """The tensor (3, H, W) of an image.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or is so long and thin that its resized version would not fit into memory.
        """
        named = f'"{image}"' if isinstance(image, (str, Path)) else f"of mode {image.mode}"
        if isinstance(image, Image.Image):
            picture = _in_rgb(image)
        else:
            picture = read_image(image, **self._reading)
        short, long = sorted(picture.size)
        edge = max(self.cfg.INPUT.SIZE)
        squashed = of(self.cfg, "INPUT.RESIZE_MODE") == "squash"
        if not squashed and edge * edge * long / short > MOST_PIXELS:
            raise ValueError(
                f"Cannot use the image {named}: {picture.width} x {picture.height} pixels are too long and thin to "
                f"be resized to {edge} pixels at the smaller edge"
            )
        return self.preprocess(picture)

    def _logits(self, images: Any) -> Tensor:
        if not isinstance(images, Tensor):
            images = torch.stack([self.prepare(image) for image in images])
        return self._trainer.model_inference(images.to(self.device)).float().cpu()

    @contextlib.contextmanager
    def _as_in_training(self) -> Iterator[None]:
        """The global switches that train.py sets, for as long as it takes."""
        cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = cuda.allow_tf32, cudnn.allow_tf32
        cuda.allow_tf32 = cudnn.allow_tf32 = self.cfg.TRAIN.TF32
        try:
            yield
        finally:
            cuda.allow_tf32, cudnn.allow_tf32 = before


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        raise ValueError(
            f"an image of mode {image.mode} may mean any brightness: convert it to L or RGB first"
        )
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
