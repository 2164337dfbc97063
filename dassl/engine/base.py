"""The training loop and the bookkeeping of models, optimisers and schedulers."""

import os.path as osp
import threading
from collections import OrderedDict
from collections.abc import Callable
from glob import escape, glob
from typing import Any, NoReturn

import torch
from torch import nn

from dassl.utils import collectives, load_checkpoint, resume_from_checkpoint, save_checkpoint, tolist_if_not

from .resume import ResumeFile, has_finite_weights, load_weights

BEST_MODEL = "model-best.pth.tar"


def _of_another_thread(args: threading.ExceptHookArgs) -> None:
    """As ever, but for tensorboard's thread: its error is raised again where the next number is written."""
    if not type(args.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(args)


class TrainerBase:
    """The loop ``train``, whose hooks subclasses fill, and a table of named models.

    Order of the hooks: ``before_train``, then per epoch ``before_epoch``, ``run_epoch``, ``after_epoch``,
    then ``after_train``.

    A subclass that keeps state beyond its registered models (a running average of weights, a stage)
    returns it from ``get_extra_state`` and takes it back in ``set_extra_state``, so that an interrupted
    run continues exactly.

    One process trains a model. A subclass that several can train together (torchrun; each gets its part of every batch)
    says so in ``in_many_processes``, and keeps their models equal; only the first process then writes files.
    """

    in_many_processes = False

    epoch: int
    num_batches: int
    batch_idx: int

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None
        self._resume_file: ResumeFile | None = None
        self._last_good: tuple[int, str] | None = None  # epochs done, checkpoint

    def register_model(
        self, name: str = "model", model: Any = None, optim: Any = None, sched: Any = None
    ) -> None:
        """Put a model in the table: it is saved, loaded and switched between training and evaluation.

        Raises:
            AttributeError: called before ``super().__init__()``.
            ValueError: the name is taken.
        """
        if "_models" not in self.__dict__:
            raise AttributeError("register_model() must come after super().__init__()")
        if name in self._models:
            raise ValueError(f'there is a model "{name}" already')
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Names of all registered models, or ``names`` as a list after a check that they exist."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            if name not in self._models:
                raise ValueError(f'there is no model "{name}", there are {", ".join(self._models)}')
        return names

    def get_extra_state(self) -> dict[str, Any]:
        """State beyond models, optimisers and schedulers: tensors, numbers, strings, lists, dicts of them."""
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what ``get_extra_state`` returned."""

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write ``<directory>/<model>/model.pth.tar-<epoch + 1>`` (or ``model_name``) for each model."""
        names = self.get_model_names()
        for name in names if collectives.is_first() else []:
            optim, sched = self._optims[name], self._scheds[name]
            save_checkpoint(
                {
                    "state_dict": self._models[name].state_dict(),
                    "epoch": epoch + 1,
                    "optimizer": None if optim is None else optim.state_dict(),
                    "scheduler": None if sched is None else sched.state_dict(),
                    "val_result": val_result,
                },
                osp.join(directory, name),
                is_best=is_best,
                model_name=model_name,
            )
        collectives.wait_for_all()
        if names and has_finite_weights(self):
            path = osp.join(directory, names[0], model_name or f"model.pth.tar-{epoch + 1}")
            self._note_good(epoch + 1, path)

    def resume_model_if_exist(self, directory: str) -> int:
        """Continue from ``resume.pth.tar`` in the folder, or else from Dassl's checkpoints there.

        Returns:
            the epoch to start with: 0 where the folder has neither.
        """
        if self._resume_file is not None:
            start_epoch = self._resume_file.load(directory)
            if start_epoch is not None:
                print(f"Found checkpoint at {directory} (will resume training)")
                print(f"Previous epoch: {start_epoch}")
                self.epoch = max(start_epoch - 1, 0)
                return start_epoch

        names = self.get_model_names()
        if not names or not all(osp.exists(osp.join(directory, name, "checkpoint")) for name in names):
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        start_epoch = 0
        for name in names:
            path = osp.join(directory, name)
            start_epoch = resume_from_checkpoint(
                path, self._models[name], self._optims[name], self._scheds[name]
            )
            self._note_good(start_epoch, path)
        self.epoch = max(start_epoch - 1, 0)
        return start_epoch

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of all models from an output folder: of ``epoch``, or else of the best epoch.

        Raises:
            FileNotFoundError: there is no such file; the message lists those that are there.
            ValueError: the weights do not fit.
        """
        if not directory:
            print(
                "Note that load_model() is skipped as no pretrained model is given "
                "(ignore this if it's done on purpose)"
            )
            return
        file = BEST_MODEL if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            folder = osp.join(directory, name)
            path = osp.join(folder, file)
            if not osp.exists(path):
                raise FileNotFoundError(f"no model at {path}: {_checkpoints_there(folder)}")
            checkpoint = load_checkpoint(path)
            val_result = checkpoint.get("val_result")
            result = "None" if val_result is None else f"{val_result:.1f}"
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={result})")
            load_weights(self._models[name], checkpoint["state_dict"], path)

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Switch models to "train", or to "test" or "eval" (which are the same)."""
        if mode not in ("train", "test", "eval"):
            raise KeyError(f'unknown mode "{mode}": choose train, test or eval')
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the schedulers."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Learning rate of the first parameter group of the first model that has an optimiser."""
        names = self.get_model_names(names)
        for name in names:
            if self._optims[name] is not None:
                return self._optims[name].param_groups[0]["lr"]
        raise ValueError(f"none of the models {names} has an optimiser")

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Stop the run where a loss is NaN or infinite.

        Raises:
            FloatingPointError: with the place, the learning rate and the last good checkpoint.
        """
        if torch.isfinite(loss).all():
            return
        rates = [optim.param_groups[0]["lr"] for optim in self._optims.values() if optim is not None]
        value = loss.detach()[~torch.isfinite(loss)][0].item()
        self._stop_at_anomaly(value, getattr(self, "batch_idx", None), rates)

    def _stop_at_anomaly(self, value: float, batch_idx: int | None, rates: list[float]) -> NoReturn:
        where = ""
        if batch_idx is not None:
            step = self.epoch * self.num_batches + batch_idx + 1
            where = f" at epoch {self.epoch + 1} batch {batch_idx + 1} (step {step})"
        rate = ", ".join(f"{rate:.4e}" for rate in rates) or "unknown"
        epochs, path = self._last_good or (0, "none has been written yet")
        raise FloatingPointError(
            f"loss is {value}{where}, learning rate {rate}; "
            f"last good checkpoint: {path}{f' (epoch {epochs})' if epochs else ''}"
        )

    def _note_good(self, epochs: int, path: str) -> None:
        """Remember a checkpoint whose weights are finite; of several of one epoch, the first."""
        if self._last_good is None or epochs > self._last_good[0]:
            self._last_good = epochs, path

    def init_writer(self, log_dir: str) -> None:
        """Open the tensorboard writer, if it is not open."""
        if self._writer is None and collectives.is_first():
            # Here, because the import takes seconds and a run that only evaluates needs none of it.
            from torch.utils.tensorboard import SummaryWriter

            print(f"Initialize tensorboard (log_dir={log_dir})")
            threading.excepthook = _of_another_thread
            self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self) -> None:
        """OSError where what is left cannot be written."""
        if self._writer is not None:
            self._written(self._writer.close)

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write to tensorboard; without effect where no writer is open, as in evaluation.

        OSError where it, or one before it, cannot be written: the disk is full, the folder has gone.
        """
        if self._writer is not None:
            self._written(self._writer.add_scalar, tag, scalar_value, global_step)

    def _written(self, write: Callable[..., None], *args: Any) -> None:
        try:
            write(*args)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._writer.log_dir) from error

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Train from ``start_epoch`` (which ``before_train`` may change) up to ``max_epoch``."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch

        self.before_train()
        if self._resume_file is not None:
            self._resume_file.begin()
        try:
            for epoch in range(self.start_epoch, self.max_epoch):
                self.epoch = epoch
                self.before_epoch()
                self.run_epoch()
                self.after_epoch()
                if self._resume_file is not None:
                    self._resume_file.epoch_done()
            self.after_train()
        except (KeyboardInterrupt, SystemExit):
            if self._resume_file is not None:
                self._resume_file.save()
            raise
        if self._resume_file is not None:
            self._resume_file.remove()

    def before_train(self):
        pass

    def after_train(self):
        pass

    def before_epoch(self):
        pass

    def after_epoch(self):
        pass

    def run_epoch(self):
        raise NotImplementedError

    def test(self):
        raise NotImplementedError

    def parse_batch_train(self, batch):
        raise NotImplementedError

    def parse_batch_test(self, batch):
        raise NotImplementedError

    def forward_backward(self, batch):
        raise NotImplementedError

    def model_inference(self, input):
        raise NotImplementedError

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: torch.Tensor, names: str | list[str] | None = None) -> None:
        """One optimisation step of the named models, or of all."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)


def _checkpoints_there(folder: str) -> str:
    epochs = sorted(
        int(path.rsplit("-", 1)[1])
        for path in glob(osp.join(escape(folder), "model.pth.tar-*"))
        if path.rsplit("-", 1)[1].isdigit()
    )
    there = [f"epoch {epoch}" for epoch in epochs]
    if osp.exists(osp.join(folder, BEST_MODEL)):
        there.append(BEST_MODEL)
    return f"there is {', '.join(there)}" if there else "there is no checkpoint in that folder"
