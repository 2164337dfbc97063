"""How a method's parameters are optimised: their groups, how long, and the learning rate of each step.

``cfg.OPTIM`` is Dassl's. Recipes that it cannot say have keys of their own (foundation/keys/of_all_runs.py), read here
and so on either engine: ADAM_EPS; STEPS_PER_SHOT in the place of MAX_EPOCH; LR_STEPS, a cosine that moves with every
step in the place of the warm-up and the schedule of epochs; LR_FLOOR, where that ends.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.optim import build_lr_scheduler, build_optimizer
from foundation.keys.of_all_runs import of


class Group(NamedTuple):
    """Parameters that learn at one rate, ``rate`` times OPTIM.LR."""

    parameters: Iterable[nn.Parameter]
    rate: float = 1.0


class Cosine(LRScheduler):
    """From a group's own rate to ``floor`` along half a cosine, anew in every stage.

    Args:
        ends: after how many calls of ``step`` each stage ends.
    """

    def __init__(self, optimizer: Optimizer, ends: Sequence[int], floor: float) -> None:
        self.ends, self.floor = list(ends), floor
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        stage = min(bisect_right(self.ends, self.last_epoch), len(self.ends) - 1)
        start = self.ends[stage - 1] if stage else 0
        done = (self.last_epoch - start) / max(1, self.ends[stage] - start)
        return [self.floor + (lr - self.floor) * (1 + math.cos(math.pi * done)) / 2 for lr in self.base_lrs]


def optimizer(cfg: CfgNode, model: nn.Module, groups: Sequence[Group]) -> Optimizer:
    """The one that ``cfg.OPTIM`` describes, over all parameters of ``model`` where there are no groups."""
    own = [{"params": list(group.parameters), "lr": group.rate * cfg.OPTIM.LR} for group in groups]
    built = build_optimizer(model, cfg.OPTIM, own) if own else build_optimizer(model, cfg.OPTIM)
    for group in built.param_groups:
        if "eps" in group:  # of Adam and its like; Dassl's function takes none
            group["eps"] = of(cfg, "OPTIM.ADAM_EPS")
    return built


def schedule(cfg: CfgNode, optimizer: Optimizer, ends: Sequence[int], batches: int) -> LRScheduler:
    """The learning rate; to be stepped as ``is_per_step`` says.

    Args:
        ends: the epoch at which each stage of the training ends.
        batches: steps of an epoch.

    Raises:
        ValueError: other settings of the schedule do not go with LR_STEPS.
    """
    optim, floor = cfg.OPTIM, of(cfg, "OPTIM.LR_FLOOR")
    if not is_per_step(cfg):
        if floor:
            raise ValueError(
                f"OPTIM.LR_FLOOR is {floor}, only OPTIM.LR_STEPS True ends there: choose it, or 0"
            )
        return build_lr_scheduler(optimizer, _of_epochs(optim, ends[-1]))
    if optim.LR_SCHEDULER != "cosine" or optim.WARMUP_EPOCH > 0:
        raise ValueError(
            f"OPTIM.LR_STEPS is True, OPTIM.LR_SCHEDULER {optim.LR_SCHEDULER} and OPTIM.WARMUP_EPOCH "
            f"{optim.WARMUP_EPOCH}: a rate that moves with every step is a cosine without warm-up (cosine, -1)"
        )
    return Cosine(optimizer, [end * batches for end in ends], floor)


def _of_epochs(optim: CfgNode, epochs: int) -> CfgNode:
    """``cfg.OPTIM`` of a training of so many epochs, whatever MAX_EPOCH says."""
    optim = optim.clone()
    optim.defrost()
    optim.MAX_EPOCH = epochs
    return optim


def is_per_step(cfg: CfgNode) -> bool:
    """Whether the learning rate moves with every step, not with every epoch."""
    return bool(of(cfg, "OPTIM.LR_STEPS"))


def epochs(cfg: CfgNode, loader: Any) -> int:
    """OPTIM.MAX_EPOCH, or the whole epochs nearest to STEPS_PER_SHOT steps for each shot."""
    steps, shots = of(cfg, "OPTIM.STEPS_PER_SHOT"), cfg.DATASET.NUM_SHOTS
    if not steps or shots < 1 or loader is None:
        return cfg.OPTIM.MAX_EPOCH
    return max(1, round(steps * shots / len(loader)))


def check_shots(cfg: CfgNode) -> None:
    """ValueError where steps are to be counted in shots, and there are none; only what trains need ask."""
    steps, shots = of(cfg, "OPTIM.STEPS_PER_SHOT"), cfg.DATASET.NUM_SHOTS
    if steps and shots < 1:
        raise ValueError(
            f"OPTIM.STEPS_PER_SHOT is {steps}, DATASET.NUM_SHOTS {shots}: 1 or more shots are needed, or 0 steps for "
            "each and the epochs of OPTIM.MAX_EPOCH"
        )
