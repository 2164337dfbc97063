"""Loss scaling whose decision, to skip a step whose gradients overflowed, stays on the device.

torch's GradScaler looks at its overflow flag in Python, and so waits for the device in every step, unless the optimiser
takes the flag itself: the fused forms of SGD and Adam do.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

FUSED = (SGD, Adam, AdamW)


def without_waiting(optimizer: Optimizer) -> Optimizer:
    """The optimiser in its fused form, or itself where there is none (RMSprop, RAdam, SGD with dampening).

    Its state dict is that of the form that is not fused: checkpoints go from one device to another.
    """
    form: Any = type(optimizer)
    if form not in FUSED or any(group.get("dampening") for group in optimizer.param_groups):
        return optimizer
    groups = [{**group, "fused": True, "foreach": None} for group in optimizer.param_groups]
    fused = form(groups, lr=optimizer.defaults["lr"], fused=True)
    fused.register_step_pre_hook(_begin_momentum)
    fused.register_load_state_dict_pre_hook(lambda _, state: _with_fused(state, True))
    fused.register_state_dict_post_hook(lambda _, state: _with_fused(state, None))
    return fused


def _begin_momentum(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """From zero: the fused form would begin with the gradient, and leaves it unset where it skips that step."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _with_fused(state: Mapping[str, Any], fused: bool | None) -> dict[str, Any]:
    groups = [{**group, "fused": fused} if "fused" in group else group for group in state["param_groups"]]
    return {**state, "param_groups": groups}
