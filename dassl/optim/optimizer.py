"""The optimiser that ``cfg.OPTIM`` describes."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from .radam import RAdam

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Iterable[Any] | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser named ``optim_cfg.NAME``.

    Args:
        model: a module (all of its parameters), or parameters or parameter groups.
        optim_cfg: the ``OPTIM`` part of a config.
        param_groups: when given, these are optimised and ``model`` is not looked at.

    With ``STAGED_LR`` the parts of the module named in ``NEW_LAYERS`` learn at ``LR``, all others at
    ``LR * BASE_LR_MULT``.

    Raises:
        ValueError: unknown optimiser, or a name in ``NEW_LAYERS`` that the module does not have.
        TypeError: ``STAGED_LR`` without a module.
    """
    name, lr, weight_decay = optim_cfg.NAME, optim_cfg.LR, optim_cfg.WEIGHT_DECAY
    adam = {"betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2), "eps": optim_cfg.get("ADAM_EPS", 1e-8)}

    params: Any = param_groups
    if params is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn("OPTIM.STAGED_LR has no effect on param_groups: give each its own lr", stacklevel=2)
    elif optim_cfg.STAGED_LR:
        params = _staged_groups(model, optim_cfg)
    else:
        params = model.parameters() if isinstance(model, nn.Module) else model

    if name == "adam":
        return torch.optim.Adam(params, lr=lr, weight_decay=weight_decay, **adam)
    if name == "amsgrad":
        return torch.optim.Adam(params, lr=lr, weight_decay=weight_decay, **adam, amsgrad=True)
    if name == "sgd":
        return torch.optim.SGD(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=optim_cfg.MOMENTUM,
            alpha=optim_cfg.RMSPROP_ALPHA,
        )
    if name == "radam":
        return RAdam(params, lr=lr, weight_decay=weight_decay, **adam)
    if name == "adamw":
        return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, **adam)
    raise ValueError(f'unknown optimiser "{name}" in OPTIM.NAME: choose one of {", ".join(AVAI_OPTIMS)}')


def _staged_groups(model: Any, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"OPTIM.STAGED_LR needs an nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        model = model.module

    new_layers = optim_cfg.NEW_LAYERS
    if isinstance(new_layers, str):
        new_layers = [new_layers]
    if not new_layers:
        warnings.warn("OPTIM.NEW_LAYERS is empty: all layers learn at the reduced rate", stacklevel=3)

    # The first part of a parameter's name is the child it belongs to, or its own name.
    base: list[nn.Parameter] = []
    new: list[nn.Parameter] = []
    parts = {}
    for key, param in model.named_parameters():
        part = key.split(".")[0]
        parts[part] = True
        (new if part in new_layers else base).append(param)
    for layer in new_layers:
        if layer not in parts:
            raise ValueError(f'OPTIM.NEW_LAYERS: the model has no "{layer}"; it has {", ".join(parts)}')
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
