"""The rolling file from which an interrupted run continues to the bit-identical result.

Beside Dassl's checkpoints, which hold weights, optimisers and schedulers at chosen epochs, a run keeps
one file ``resume.pth.tar`` in its output folder. It is written when training starts and then at the end
of an epoch, not more often than every ``TRAIN.RESUME_INTERVAL`` seconds (30 where the config has no such
key), always whole or not at all, and removed when the run has finished. How often it is written does not
change the result, only how much is computed again. Frozen weights that are as they were built are not in it.
"""

import glob
import math
import os
import os.path as osp
import shutil
import time
import zlib
from collections.abc import Container
from typing import Any

import torch
from torch import nn

from dassl.utils import load_checkpoint, processes
from dassl.utils.atomic import SUFFIX, atomic_write

from .random_states import get_random_states, set_random_states

FILE_NAME = "resume.pth.tar"
DEFAULT_INTERVAL = 30.0
# Settings that say where and how a run computes, not what: they may change when it continues.
NOT_OF_THE_RESULT = {
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "USE_CUDA",
    "DATASET.ROOT",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "MODEL.TEXT_CHUNK",
    "MODEL.TEXT_MEMORY",
    "TEST.CLASS_CHUNK",
    "TEST.FEATURE_CACHE",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.TOP_K",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.COMPILE",
    "TRAIN.CUDA_GRAPH",
    "TRAIN.FEATURE_CACHE",
    "TRAIN.OVERWRITE",
    "TRAIN.PRINT_FREQ",
    "TRAIN.RESUME_INTERVAL",
}
NAMES = ("TRAINER.NAME", "DATASET.NAME", "SEED")  # what a person wants to hear of first


class ResumeFile:
    """Writes and reads ``resume.pth.tar`` for one trainer; to be made before its training starts."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.path = osp.join(trainer.output_dir, FILE_NAME)
        self.interval = float(trainer.cfg.TRAIN.get("RESUME_INTERVAL", DEFAULT_INTERVAL))
        # Before any checkpoint is loaded: what a later process, too, has after building the models.
        self.fixed_as_built = {name: fixed_checksums(model) for name, model in trainer._models.items()}
        self.written_at = -math.inf
        self.random_states: dict[str, Any] | None = None

    def load(self, directory: str) -> int | None:
        """Bring the trainer to the state in ``directory``.

        Returns:
            the number of finished epochs, or None where the folder has no such file.

        Raises:
            ValueError: the file is another run's (settings that change the result, or frozen weights).
        """
        path = osp.join(directory, FILE_NAME)
        if not osp.isfile(path):
            return None
        trainer = self.trainer
        state = load_checkpoint(path)
        self._check_settings(path, state.get("settings", {}))  # older files have none
        if list(state["models"]) != trainer.get_model_names():
            raise ValueError(
                f"{path} holds the models {list(state['models'])}, this run has {trainer.get_model_names()}"
            )

        for name, model in trainer._models.items():
            saved, as_built = state["models"][name], self.fixed_as_built.get(name, {})
            if saved["left_out"] != {key: as_built.get(key) for key in saved["left_out"]}:
                raise ValueError(
                    f'{path} continues from other frozen weights of "{name}" than this run has: '
                    "start it with the backbone and the seed of the interrupted run"
                )
            load_weights(model, saved["state_dict"], path, left_out=saved["left_out"])
        _load_state_dicts(trainer._optims, state["optimizers"])
        _load_state_dicts(trainer._scheds, state["schedulers"])
        _load_state_dicts(self._scalers(), state["scalers"])
        trainer.best_result = state["best_result"]
        trainer.set_extra_state(state["extra"])

        self._take_over_best_model(directory)
        self.random_states = state["random"]
        if state["epoch"]:
            trainer._note_good(state["epoch"], path)
        return state["epoch"]

    def begin(self) -> None:
        """To be called just before the first epoch, when nothing else draws random numbers any more."""
        if self.random_states is not None:
            set_random_states(self.random_states)
        processes.wait_for_all()  # all have read the file
        if processes.is_first():
            self._remove_remains()
        self._write(self.trainer.start_epoch)

    def _remove_remains(self) -> None:
        for remains in glob.glob(osp.join(glob.escape(self.trainer.output_dir), f".{FILE_NAME}.*{SUFFIX}")):
            os.remove(remains)  # of a run that was killed while it wrote

    def epoch_done(self) -> None:
        """To be called after each epoch."""
        if time.monotonic() - self.written_at < self.interval or not has_finite_weights(self.trainer):
            return
        self._write(self.trainer.epoch + 1)
        self.trainer._note_good(self.trainer.epoch + 1, self.path)

    def remove(self) -> None:
        """To be called when the run has finished."""
        if processes.is_first() and osp.exists(self.path):
            os.remove(self.path)

    def _write(self, epoch: int) -> None:
        trainer = self.trainer
        state = {
            "epoch": epoch,
            "settings": _flat(trainer.cfg),
            "models": {name: self._model_state(name) for name in trainer._models},
            "optimizers": _state_dicts(trainer._optims),
            "schedulers": _state_dicts(trainer._scheds),
            "scalers": _state_dicts(self._scalers()),
            "best_result": float(trainer.best_result),
            "extra": trainer.get_extra_state(),
            "random": get_random_states(),
        }
        if processes.is_first():
            with atomic_write(self.path, "wb") as file:
                torch.save(state, file)
        self.written_at = time.monotonic()

    def _check_settings(self, path: str, then: dict[str, Any]) -> None:
        # A key that only one of them has does not count: a later version of a program declares more keys.
        now = _flat(self.trainer.cfg)
        changed = [key for key in now.keys() & then.keys() - NOT_OF_THE_RESULT if now[key] != then[key]]
        if changed:
            changed.sort(key=lambda key: (key not in NAMES, key))
            said = [f"{key}: {then[key]} -> {now[key]}" for key in changed[:3]]
            raise ValueError(
                f"{path} is of an unfinished run with other settings ({'; '.join(said)}"
                f"{'; ...' if len(changed) > 3 else ''}): choose another output folder, or remove the file"
            )

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
            if processes.is_first() and osp.isfile(source) and not osp.exists(target):
                os.makedirs(osp.dirname(target), exist_ok=True)
                shutil.copyfile(source, target)


def _state_dicts(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items() if part is not None}


def _flat(cfg: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings by their whole keys, like "OPTIM.LR"."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _load_state_dicts(parts: dict[str, Any], states: dict[str, Any]) -> None:
    for name, part in parts.items():
        if part is not None:
            part.load_state_dict(states[name])


def fixed_checksums(model: nn.Module) -> dict[str, int]:
    """For each tensor of the state dict that is not trained (frozen weights, buffers), its CRC-32."""
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    return {
        name: zlib.crc32(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        for name, tensor in model.state_dict().items()
        if name not in trained and isinstance(tensor, torch.Tensor)
    }


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
        raise ValueError(f"{path} does not fit the model: {str(error).splitlines()[-1].strip()}") from None
    missing = [key for key in result.missing_keys if key not in left_out]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{path} does not fit the model: it lacks {_few(missing)}, "
            f"and the model has no {_few(result.unexpected_keys)}"
        )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") or "nothing"
