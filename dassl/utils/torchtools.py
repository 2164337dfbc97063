"""Parameters of a network: count, initialise, freeze."""

from collections.abc import Iterable

import torch
from torch import nn

from .checkpoint import (  # noqa: F401  (they are imported from this module too)
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)

__all__ = ["count_num_param", "init_network_weights", "open_all_layers", "open_specified_layers"]


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Number of parameters of a network, or in ``params`` (tensors, or an optimiser's groups of them)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("model and params must provide at least one.")
    count = 0
    for item in params:
        tensors = item["params"] if isinstance(item, dict) else item
        count += sum(p.numel() for p in ([tensors] if isinstance(tensors, torch.Tensor) else tensors))
    return count


def open_all_layers(model: nn.Module) -> None:
    """Train all of the network."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train the named children of the network; freeze the others and put them in evaluation mode.

    Raises:
        ValueError: the network has no such attribute.
    """
    if isinstance(model, nn.DataParallel):
        model = model.module
    if isinstance(open_layers, str):
        open_layers = [open_layers]
    children = dict(model.named_children())
    for layer in open_layers:
        if not hasattr(model, layer):
            raise ValueError(f'"{layer}" is not an attribute of the model (layers: {", ".join(children)})')
    for name, module in children.items():
        module.train(name in open_layers)
        module.requires_grad_(name in open_layers)


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialise convolutions and linear layers (weights by ``init_type``, biases 0) and norms (1, 0).

    Raises:
        NotImplementedError: ``init_type`` is not normal, xavier, kaiming or orthogonal.
    """
    draw = {
        "normal": lambda weight: nn.init.normal_(weight, 0.0, gain),
        "xavier": lambda weight: nn.init.xavier_normal_(weight, gain=gain),
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
        "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=gain),
    }
    if init_type not in draw:
        raise NotImplementedError(
            f"initialization method {init_type} is not implemented (use one of {list(draw)})"
        )

    def init(module: nn.Module) -> None:
        kind = type(module).__name__
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if weight is None:
            return
        if "Conv" in kind or "Linear" in kind:
            draw[init_type](weight)
        elif "BatchNorm" in kind or "InstanceNorm" in kind:
            nn.init.ones_(weight)
        else:
            return
        if bias is not None:
            nn.init.zeros_(bias)

    model.apply(init)
