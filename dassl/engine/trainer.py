"""Trainers with data, evaluation and files: what most methods derive from."""

import datetime
import math
import os.path as osp
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.loader import EpochLoader
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    collectives,
    count_num_param,
    load_pretrained_weights,
    mkdir_if_missing,
)
from foundation.probabilities import Probabilities, Temperature

from . import calibration
from .base import TrainerBase
from .prefetch import Sender
from .progress import RunProgress, evaluation_progress
from .resume import ResumeFile
from .simple_net import SimpleNet
from .steps import Steps

#: Plugins import all of them, and SummaryWriter, from here.
__all__ = [
    "AverageMeter",
    "MetricMeter",
    "SimpleNet",
    "SimpleTrainer",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
]


class SimpleTrainer(TrainerBase):
    """A trainer for classification, built from a config.

    After construction it has ``cfg``, ``device``, ``output_dir``, ``dm`` (the DataManager), the data
    loaders ``train_loader_x``, ``train_loader_u``, ``val_loader``, ``test_loader``, ``num_classes``,
    ``num_source_domains``, ``lab2cname``, ``classnames``, ``evaluator`` and ``best_result``. After a test there are
    ``probabilities``, what was kept of them, ``temperature``, and ``other_probabilities`` of images of other classes.
    """

    probabilities: Probabilities | None = None
    other_probabilities: Probabilities | None = None
    temperature: Temperature | None = None
    #: That of a model which is tested after its training; None: one is fitted, if it may be.
    model_temperature: Temperature | None = None
    fits_temperature = True
    other_loader: Any = None
    _keeps_workers = False  # a test of an epoch leaves them to the next one

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.check_cfg(cfg)
        if collectives.count() > 1 and not self.in_many_processes:
            raise ValueError(
                f"{type(self).__name__} trains in one process, not in {collectives.count()}: start it without torchrun"
            )
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self._send = Sender(self.device)
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self._progress = RunProgress()
        self._steps = Steps(self)
        with collectives.first_goes_first():  # it may write draws and splits
            self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -math.inf

    def check_cfg(self, cfg: CfgNode) -> None:
        """Check what the method needs of the config (optional); raise where it does not fit."""

    def build_data_loader(self) -> None:
        """Make the data loaders and what is known of the classes.

        A subclass that does this in its own way sets the same attributes; ``dm`` and ``classnames`` are
        optional, ``train_loader_u`` and ``val_loader`` may be None.
        """
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.classnames = dm.dataset.classnames
        self.dm = dm

    def build_model(self) -> None:
        """Build and register the models. Here: a ``SimpleNet`` as "model"; methods build their own."""
        cfg = self.cfg
        print("Building model")
        self.model: nn.Module = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)
        if self.device.type == "cuda" and torch.cuda.device_count() > 1:
            print(f"Detected {torch.cuda.device_count()} GPUs (use nn.DataParallel)")
            self.model = nn.DataParallel(self.model)

    def train(self) -> None:  # type: ignore[override]
        """Train, and evaluate the final model.

        Raises:
            ValueError: the config asks for validation images, and there are none.
            OSError: the output folder cannot be written.
            FileNotFoundError: ``cfg.RESUME`` is not a folder.
            FloatingPointError: the loss became NaN or infinite.
        """
        if not self._models and type(self).forward_backward is TrainerBase.forward_backward:
            raise ValueError(
                f"{type(self).__name__} learns nothing (it registers no model and has no forward_backward): "
                "evaluate it with --eval-only"
            )
        if not self.cfg.TEST.NO_TEST:
            self._check_validation_images()
            if self.cfg.TEST.FINAL_MODEL == "best_val" and self.val_loader is None:
                raise ValueError(
                    f"TEST.FINAL_MODEL is 'best_val', but {self.cfg.DATASET.NAME} has no validation images to choose"
                    " by: take 'last_step', or a data set that has some"
                )
        if collectives.is_first():
            check_writable(self.output_dir)
        if self.cfg.RESUME and not osp.isdir(self.cfg.RESUME):
            raise FileNotFoundError(f"there is no folder {self.cfg.RESUME} to resume from")
        self._resume_file = ResumeFile(self)
        self._keeps_workers = True
        try:
            super().train(self.start_epoch, self.max_epoch)
        finally:
            self._keeps_workers = False
            self._progress.close()
            self._end_workers()

    def _end_workers(self) -> None:
        for loader in vars(self).values():
            if isinstance(loader, EpochLoader):
                loader.end_workers()

    def before_train(self):
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.output_dir)
        writer_dir = osp.join(self.output_dir, "tensorboard")
        if collectives.is_first():
            mkdir_if_missing(writer_dir)
        self.init_writer(writer_dir)
        self.time_start = time.time()

    def after_train(self):
        self._progress.close()
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    def after_epoch(self):
        self._progress.hide()
        epoch = self.epoch + 1
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(
                    self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar"
                )
        checkpoint_freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        if epoch == self.max_epoch or (checkpoint_freq > 0 and epoch % checkpoint_freq == 0):
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on "val" or "test" (``cfg.TEST.SPLIT``); without a validation set, "val" given here is "test".

        Returns:
            the first of the evaluator's results (accuracy in percent).

        Raises:
            ValueError: ``cfg.TEST.SPLIT`` is "val", and there are no validation images.
        """
        if split is None:
            self._check_validation_images()
        try:
            return self._test(split)
        finally:
            if not self._keeps_workers:
                self._end_workers()

    def _test(self, split: str | None) -> float:
        self.set_model_mode("eval")
        self.evaluator.reset()
        of_epoch = split == "val"
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is not None:
            data_loader = self.val_loader
        else:
            split, data_loader = "test", self.test_loader

        calibration.prepare(self, fits=split == "test", others=not of_epoch)
        assert self.probabilities is not None
        print(f"Evaluate on the *{split}* set")
        for output, label in self._outputs(data_loader, split):
            self.evaluator.process(output, label)
            self.probabilities.add(output, label)
        results = self.evaluator.evaluate()
        calibration.report(self)
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def _outputs(self, data_loader: Any, what: str) -> Iterator[tuple[Any, torch.Tensor]]:
        """The model's output and the labels of every batch, in all processes those of all.

        Args:
            what: these images are, for the bar.
        """
        for number, batch in enumerate(map(self._send, evaluation_progress(data_loader, what))):
            input, label = self.parse_batch_test(batch)
            outputs, labels = collectives.collect(self.model_inference(input)), collectives.collect(label)
            # Several processes take a batch each; in the last round some had none left and took one once more.
            left = len(outputs) if len(outputs) == 1 else data_loader.batches_of_all - number * len(outputs)
            yield from zip(outputs[:left], labels)

    @property
    def logit_scale(self) -> float | None:
        """What the logits are multiples of, so that divided by it they are cosines; None where that is not said."""
        return None

    def _check_validation_images(self) -> None:
        # Whoever reads the settings beside the result would take test accuracy for validation accuracy.
        if self.cfg.TEST.SPLIT == "val" and self.val_loader is None:
            raise ValueError(
                f"TEST.SPLIT is 'val', but {self.cfg.DATASET.NAME} has no validation images: take 'test'"
            )

    def model_inference(self, input):
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> Any:
        """Images and labels of an evaluation batch, on the trainer's device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)

    @property
    def step_seconds(self) -> float | None:
        """Median seconds of this process's training steps (see ``Steps.seconds``)."""
        return self._steps.seconds

    #: Losses that a step returns as tensors are looked at later, by ``Steps``: a trainer need not wait for them.
    checks_losses_later = True


class TrainerXU(SimpleTrainer):
    """Trains on labelled and unlabelled batches side by side: ``forward_backward(batch_x, batch_u)``.

    ``TRAIN.COUNT_ITER`` says whose length an epoch has: train_x, train_u or smaller_one.
    """

    def run_epoch(self):
        self.set_model_mode("train")
        if self.train_loader_u is None:
            raise ValueError(f"{type(self).__name__} needs unlabelled images, the data set has no train_u")
        lengths = len(self.train_loader_x), len(self.train_loader_u)
        choices = {"train_x": lengths[0], "train_u": lengths[1], "smaller_one": min(lengths)}
        if self.cfg.TRAIN.COUNT_ITER not in choices:
            raise ValueError(
                f'unknown TRAIN.COUNT_ITER "{self.cfg.TRAIN.COUNT_ITER}": choose one of {", ".join(choices)}'
            )
        self.num_batches = choices[self.cfg.TRAIN.COUNT_ITER]
        pairs = zip(_endless(self.train_loader_x), _endless(self.train_loader_u))
        self._steps.run(islice(pairs, self.num_batches))

    def parse_batch_train(self, batch_x, batch_u):
        """Labelled images, their labels, and unlabelled images, on the trainer's device."""
        return (
            batch_x["img"].to(self.device),
            batch_x["label"].to(self.device),
            batch_u["img"].to(self.device),
        )


class TrainerX(SimpleTrainer):
    """Trains on labelled batches: ``forward_backward(batch)``."""

    def run_epoch(self):
        self.set_model_mode("train")
        loader = self.train_loader_x
        self.num_batches = len(loader)
        if self._resume_file is None or collectives.count() > 1 or not isinstance(loader, EpochLoader):
            self._steps.run((batch,) for batch in loader)
            return
        first = self._resume_file.batches_done
        batches = loader.behind(first)
        self._resume_file.enter_epoch()
        self._steps.run(((batch,) for batch in batches), first)

    def parse_batch_train(self, batch):
        """Images, labels and domains, on the trainer's device."""
        return (
            batch["img"].to(self.device),
            batch["label"].to(self.device),
            batch["domain"].to(self.device),
        )


def check_writable(directory: str) -> None:
    """Make the folder if it is missing and try to write to it.

    Raises:
        OSError: it cannot be made or written; the message names it and the reason.
    """
    mkdir_if_missing(directory)
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(f"cannot write to the output folder {directory}: {error.strerror}") from None


def __getattr__(name: str) -> Any:
    """``SummaryWriter``, which plugins import from here; tensorboard takes seconds that no other run should spend."""
    if name == "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader
