"""The rolling file from which an interrupted run continues to the bit-identical result.

Beside Dassl's checkpoints, which hold weights, optimisers and schedulers at chosen epochs, a run keeps one file
``resume.pth.tar`` in its output folder, always whole or not at all, and removed when the run has finished. It is
written when training starts and at the end of an epoch: after ``TRAIN.RESUME_INTERVAL`` seconds (30 where the config
has no such key) in any case, before that where writing takes no more than a few per cent of the time. How often it is
written does not change the result, only how much is computed again. Frozen weights that are as they were built are not
in it.

Ctrl-C and SIGTERM write it where the run stands, and so do ten minutes in one epoch. The file then holds the state at
the epoch's start and the one "within" it, after some of its batches: who continues draws the epoch again, from its
start, leaves out the batches that are done, and goes on with the later state. That takes a loader that can leave
batches out (dassl.data's) and a trainer that leaves ``run_epoch`` as it is; others go on from the epoch's start, and so
do several processes and `TrainerXU`, whose two loaders may begin anew in the middle.
"""

import copy
import glob
import math
import os
import os.path as osp
import shutil
import time
import zlib
from collections import OrderedDict
from collections.abc import Container
from typing import Any

import torch
from torch import nn

from dassl.utils import collectives, load_checkpoint
from foundation import identity
from foundation.atomic import SUFFIX, atomic_write
from foundation.errors import WrongInput
from foundation.keys.of_all_runs import of

from .random_states import get_random_states, set_random_states

FILE_NAME = "resume.pth.tar"
SHARE = 0.03  # of the time may go into writing
OVERDUE = 600.0  # seconds after which it is written in the middle of an epoch, too


class ResumeFile:
    """Writes and reads ``resume.pth.tar`` for one trainer; to be made before its training starts."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.path = osp.join(trainer.output_dir, FILE_NAME)
        self.interval = float(of(trainer.cfg, "TRAIN.RESUME_INTERVAL"))
        # Before any checkpoint is loaded: what a later process, too, has after building the models.
        self.fixed_as_built = {name: fixed_checksums(model) for name, model in trainer._models.items()}
        self.inputs = identity.inputs(trainer)
        if "backbone weights" not in self.inputs:
            self.inputs["weights beside the models"] = _checksum_beside_models(trainer)
        self.written_at, self.seconds_to_write = -math.inf, 0.0
        self.random_states: dict[str, Any] | None = None
        self.epoch_start: dict[str, Any] | None = None  # the state then
        self._within: dict[str, Any] | None = None  # the state after some of an epoch's batches
        self._saved = False  # whether the file holds these two

    def load(self, directory: str) -> int | None:
        """Bring the trainer to the state in ``directory``.

        Returns:
            the number of finished epochs, or None where the folder has no such file.

        Raises:
            ValueError: the file is damaged or none of ours, or another run's (settings that change the result, weights,
                data).
        """
        path = osp.join(directory, FILE_NAME)
        if not osp.isfile(path):
            return None
        trainer = self.trainer
        state = _read(path)
        self._check_identity(path, state)
        if list(state["models"]) != trainer.get_model_names():
            raise WrongInput(
                f"{path} holds the models {list(state['models'])}, this run has {trainer.get_model_names()}"
            )

        for name, saved in state["models"].items():
            as_built = self.fixed_as_built.get(name, {})
            if saved["left_out"] != {key: as_built.get(key) for key in saved["left_out"]}:
                raise WrongInput(
                    f'{path} continues from other frozen weights of "{name}" than this run has: '
                    "start it with the backbone and the seed of the interrupted run"
                )
        self._restore(state, path)
        trainer.best_result = state["best_result"]

        self._take_over_best_model(directory)
        self.random_states = state["random"]
        self._within = state.get("within")  # older files have none
        if state["epoch"]:
            trainer._note_good(state["epoch"], path)
        return state["epoch"]

    def begin(self) -> None:
        """To be called just before the first epoch, when nothing else draws random numbers any more."""
        if self.random_states is not None:
            set_random_states(self.random_states)
        collectives.wait_for_all()  # all have read the file
        if collectives.is_first():
            self._remove_remains()
        self._start_epoch(self.trainer.start_epoch)
        self._write()

    def _remove_remains(self) -> None:
        for remains in glob.glob(osp.join(glob.escape(self.trainer.output_dir), f".{FILE_NAME}.*{SUFFIX}")):
            os.remove(remains)  # of a run that was killed while it wrote

    def _start_epoch(self, epoch: int) -> None:
        state = {"epoch": epoch, "best_result": float(self.trainer.best_result), **self._state()}
        self.epoch_start, self._saved = state, False

    @property
    def within(self) -> dict[str, Any] | None:
        """The state after some batches of the epoch, where one is kept."""
        # That of an epoch that is over may still be here: an interruption can come between any two statements.
        start, within = self.epoch_start, self._within
        return within if start and within and within["epoch"] == start["epoch"] else None

    @property
    def batches_done(self) -> int:
        """How many batches of the epoch that begins were done before the run was interrupted."""
        return self.within["batches"] if self.within else 0

    def enter_epoch(self) -> None:
        """Go to where the run was interrupted within the epoch; when the loader has drawn it, from its start."""
        if self.within is not None:
            self._restore(self.within, self.path)
            set_random_states(self.within["random"])

    def note_batches(self, batches: int) -> None:
        """Keep the state after that many of the epoch's batches, for ``save``."""
        if self.epoch_start is not None and has_finite_weights(self.trainer):
            within = {"epoch": self.epoch_start["epoch"], "batches": batches, **self._state()}
            self._within, self._saved = within, False

    def is_overdue(self) -> bool:
        """Whether the file should be written though the epoch has not ended."""
        elapsed = time.monotonic() - self.written_at
        return elapsed >= max(OVERDUE, self.interval) and self.seconds_to_write <= SHARE * elapsed

    def epoch_done(self) -> None:
        """To be called after each epoch."""
        trainer = self.trainer
        if not has_finite_weights(trainer):
            self.epoch_start = None
            return
        self._start_epoch(trainer.epoch + 1)
        elapsed = time.monotonic() - self.written_at
        cheap = self.seconds_to_write <= SHARE * elapsed
        if elapsed >= self.interval or cheap or trainer.epoch + 1 == trainer.max_epoch:
            self._write()
            trainer._note_good(trainer.epoch + 1, self.path)

    def save(self) -> None:
        """Write what is kept, if that has not been done: the run is interrupted."""
        if self.epoch_start is not None and not self._saved:
            self._write()

    def remove(self) -> None:
        """To be called when the run has finished."""
        if collectives.is_first() and osp.exists(self.path):
            os.remove(self.path)

    def _state(self) -> dict[str, Any]:
        """Copies of all that training changes."""
        trainer = self.trainer
        return _copy(
            {
                "models": {name: self._model_state(name) for name in trainer._models},
                "optimizers": _state_dicts(trainer._optims),
                "schedulers": _state_dicts(trainer._scheds),
                "scalers": _state_dicts(self._scalers()),
                "extra": trainer.get_extra_state(),
                "random": get_random_states(),
            }
        )

    def _restore(self, state: dict[str, Any], path: str) -> None:
        """All but the random states."""
        trainer = self.trainer
        for name, model in trainer._models.items():
            saved = state["models"][name]
            load_weights(model, saved["state_dict"], path, left_out=saved["left_out"])
        # Copies: optimisers and schedulers keep parts of what they are given.
        _load_state_dicts(trainer._optims, _copy(state["optimizers"]))
        _load_state_dicts(trainer._scheds, _copy(state["schedulers"]))
        _load_state_dicts(self._scalers(), _copy(state["scalers"]))
        trainer.set_extra_state(_copy(state["extra"]))

    def _write(self) -> None:
        assert self.epoch_start is not None
        state = {
            "settings": identity.flat(self.trainer.cfg),
            "inputs": self.inputs,
            **self.epoch_start,
            "within": self.within,
        }
        began = time.monotonic()
        if collectives.is_first():
            with atomic_write(self.path, "wb") as file:
                torch.save(state, file)
        self.written_at = time.monotonic()
        self.seconds_to_write = self.written_at - began
        self._saved = True

    def _check_identity(self, path: str, state: dict[str, Any]) -> None:
        # Older files lack one or the other.
        changed = {
            "settings": identity.differences(
                state.get("settings", {}),
                self.trainer.cfg,
                of_a_batch=identity.scores_batches(self.trainer),
            ),
            "weights or data": identity.differing_inputs(state.get("inputs", {}), self.inputs),
        }
        for what, found in changed.items():
            identity.refuse(path, what, found, "the file removed")

    def _model_state(self, name: str) -> dict[str, Any]:
        """The state dict without what is still as built, and the checksums of that.

        Frozen weights can change too (a teacher that follows its student), so they are looked at.
        """
        model, as_built = self.trainer._models[name], self.fixed_as_built.get(name, {})
        left_out = {key: value for key, value in fixed_checksums(model).items() if as_built.get(key) == value}
        weights = {key: value for key, value in model.state_dict().items() if key not in left_out}
        return {"state_dict": weights, "left_out": left_out}

    def _scalers(self) -> dict[str, torch.amp.GradScaler]:
        return {k: v for k, v in vars(self.trainer).items() if isinstance(v, torch.amp.GradScaler)}

    def _take_over_best_model(self, directory: str) -> None:
        """Continuing in another folder: the best model so far may stay the best."""
        for name in self.trainer._models:
            source = osp.join(directory, name, "model-best.pth.tar")
            target = osp.join(self.trainer.output_dir, name, "model-best.pth.tar")
            if collectives.is_first() and osp.isfile(source) and not osp.exists(target):
                os.makedirs(osp.dirname(target), exist_ok=True)
                shutil.copyfile(source, target)


def _read(path: str) -> dict[str, Any]:
    try:
        state = load_checkpoint(path)
    except ValueError as error:
        raise WrongInput(f"{error}: remove it to begin anew") from error
    if not isinstance(state, dict) or not {"epoch", "models", "random"} <= state.keys():
        raise WrongInput(f"{path} holds no run to continue: remove it to begin anew")
    return state


def _state_dicts(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items() if part is not None}


def _copy(state: Any) -> Any:
    """Of nested plain data, with tensors on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if type(state) in (dict, OrderedDict):
        return {key: _copy(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map(_copy, state))
    return copy.deepcopy(state)


def _checksum_beside_models(trainer: Any) -> int:
    """CRC-32 of what does not train in modules that are not registered, like the CLIP of most plugins."""
    registered = {
        id(tensor) for model in trainer._models.values() for tensor in [*model.parameters(), *model.buffers()]
    }
    checksum = 0
    for value in vars(trainer).values():
        if isinstance(value, nn.Module):
            for tensor in [*value.parameters(), *value.buffers()]:
                if not tensor.requires_grad and id(tensor) not in registered:
                    checksum = zlib.crc32(_bytes(tensor), checksum)
    return checksum


def _load_state_dicts(parts: dict[str, Any], states: dict[str, Any]) -> None:
    for name, part in parts.items():
        if part is not None:
            part.load_state_dict(states[name])


def fixed_checksums(model: nn.Module) -> dict[str, int]:
    """For each tensor of the state dict that is not trained (frozen weights, buffers), its CRC-32."""
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    return {
        name: zlib.crc32(_bytes(tensor))
        for name, tensor in model.state_dict().items()
        if name not in trained and isinstance(tensor, torch.Tensor)
    }


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def has_finite_weights(trainer: Any) -> bool:
    """Whether all weights that train are finite."""
    return all(
        bool(torch.isfinite(param).all())
        for model in trainer._models.values()
        for param in model.parameters()
        if param.requires_grad
    )


def load_weights(
    model: nn.Module, state_dict: dict[str, Any], path: str, left_out: Container[str] = ()
) -> None:
    """Load the state dict that stands in ``path``, from which exactly the keys ``left_out`` may be missing.

    Raises:
        ValueError: names or shapes do not fit; the message names the first of them.
    """
    try:
        result = model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:  # several lines: a title, then one for each tensor of another shape
        raise WrongInput(f"{path} does not fit the model: {str(error).splitlines()[-1].strip()}") from None
    missing = [key for key in result.missing_keys if key not in left_out]
    if missing or result.unexpected_keys:
        raise WrongInput(
            f"{path} does not fit the model: it lacks {_few(missing)}, "
            f"and the model has no {_few(result.unexpected_keys)}"
        )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") or "nothing"
