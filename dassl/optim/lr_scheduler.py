"""The learning-rate schedule that ``cfg.OPTIM`` describes, with its warm-up."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR
from yacs.config import CfgNode

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]


class _BaseWarmupScheduler(LRScheduler):
    """Runs its own rates for ``warmup_epoch`` steps, then those of ``successor``.

    The successor stands still during the warm-up: the first epoch after it uses the successor's
    initial rate, and each later step moves the successor by one.
    """

    def __init__(self, optimizer, successor, warmup_epoch, last_epoch=-1, verbose=False):
        # torch's schedulers no longer take `verbose`; plugins still pass it.
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        raise NotImplementedError

    def step(self, epoch=None):
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Numbers only: the successor is represented by its own state, not by the live object."""
        return {**super().state_dict(), "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        state = dict(state_dict)
        successor = state.pop("successor")
        if not isinstance(successor, Mapping):
            # Dassl wrote the live object; load_checkpoint reads it as an inert one that holds its attributes.
            successor = {key: value for key, value in successor.state.items() if key != "optimizer"}
        super().load_state_dict(state)
        self.successor.load_state_dict(dict(successor))


class ConstantWarmupScheduler(_BaseWarmupScheduler):
    """``cons_lr`` during the warm-up."""

    def __init__(self, optimizer, successor, warmup_epoch, cons_lr, last_epoch=-1, verbose=False):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.cons_lr for _ in self.base_lrs]


class LinearWarmupScheduler(_BaseWarmupScheduler):
    """``min_lr`` in the first epoch, then ``lr * epoch / warmup_epoch``."""

    def __init__(self, optimizer, successor, warmup_epoch, min_lr, last_epoch=-1, verbose=False):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        if self.last_epoch == 0:
            return [self.min_lr for _ in self.base_lrs]
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Build the schedule named ``optim_cfg.LR_SCHEDULER``; it is to be stepped once per epoch.

    ``STEPSIZE`` is a tuple: ``single_step`` takes its last entry (zero or less: never), ``multi_step`` all.
    ``WARMUP_RECOUNT``: whether the schedule starts counting after the warm-up or includes it.

    Raises:
        ValueError: unknown schedule or warm-up type.
        TypeError: a ``STEPSIZE`` of the wrong type.
    """
    name, stepsize, max_epoch = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE, optim_cfg.MAX_EPOCH

    scheduler: LRScheduler
    if name == "single_step":
        if isinstance(stepsize, (list, tuple)):
            stepsize = stepsize[-1]
        if not isinstance(stepsize, int):
            raise TypeError(f"OPTIM.STEPSIZE must be an integer for single_step, got {stepsize!r}")
        scheduler = StepLR(optimizer, stepsize if stepsize > 0 else max_epoch, gamma=optim_cfg.GAMMA)
    elif name == "multi_step":
        if not isinstance(stepsize, (list, tuple)):
            raise TypeError(f"OPTIM.STEPSIZE must be a list for multi_step, got {stepsize!r}")
        scheduler = MultiStepLR(optimizer, stepsize, gamma=optim_cfg.GAMMA)
    elif name == "cosine":
        scheduler = CosineAnnealingLR(optimizer, max_epoch)
    else:
        raise ValueError(
            f'unknown schedule "{name}" in OPTIM.LR_SCHEDULER: choose one of {", ".join(AVAI_SCHEDS)}'
        )

    warmup_epoch = optim_cfg.WARMUP_EPOCH
    if warmup_epoch <= 0:
        return scheduler
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = warmup_epoch
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, warmup_epoch, optim_cfg.WARMUP_CONS_LR)
    if optim_cfg.WARMUP_TYPE == "linear":
        return LinearWarmupScheduler(optimizer, scheduler, warmup_epoch, optim_cfg.WARMUP_MIN_LR)
    raise ValueError(f'unknown OPTIM.WARMUP_TYPE "{optim_cfg.WARMUP_TYPE}": choose "constant" or "linear"')
