"""What a step asks of the towers and of the transport, noted and made again one by one."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.clock import Clock
from benchmarks.operations import image_operations, text_operations, transport_operations
from clip import NONE, Changes, TextPrompts

PARTS = ("image", "text", "transport")
#: What hierarchical_transport is given, in its order; what follows are options.
TRANSPORTED = ("image_points", "text_points", "image_tokens", "text_tokens", "text_lengths")


class Calls:
    """The calls of towers and transport that a step makes, to be made again one by one."""

    def __init__(self, model: Any) -> None:
        self.towers = model.clip
        self.made: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []
        self._handles = [
            tower.register_forward_pre_hook(
                lambda module, args, kwargs, part=part: self.made.append((part, module, args, kwargs)),
                with_kwargs=True,
            )
            for part, tower in (("image", self.towers.image), ("text", self.towers.text))
        ]
        self.model = model
        self._transport = getattr(model, "transport", None)
        if self._transport is not None:
            model.transport = self._note

    def _note(self, *args: Any, **kwargs: Any) -> Any:
        assert self._transport is not None
        kwargs |= dict(zip(TRANSPORTED, args))
        args = tuple(kwargs.pop(name, None) for name in TRANSPORTED)
        self.made.append(("transport", None, args, kwargs))
        return self._transport(*args, **kwargs)

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        if self._transport is not None:
            self.model.transport = self._transport

    def texts(self) -> int:
        """That went through the text tower."""
        layouts = [args[0].layout for part, _, args, _ in self.made if part == "text"]
        return sum(len(layout.roots) * len(layout.branches) for layout in layouts)

    def operations(self) -> float:
        """Those that a step must do."""
        total = 0.0
        for part, module, args, kwargs in self.made:
            if part == "transport":
                total += transport_operations(*args[2:5])
            else:
                total += (image_operations if part == "image" else text_operations)(module, *args, **kwargs)
        return total

    def replay(self, clock: Clock, autocast: Any, group: int | None) -> dict[str, float]:
        """Seconds of each part, forward and backward; texts in groups of ``group``."""
        seconds = dict.fromkeys(PARTS, 0.0)
        for part, module, args, kwargs in self.made:
            call = module or self.model.transport
            for some in in_groups(args, group) if part == "text" and group else [args]:
                leaves = [leaf(value) for value in some]
                seconds[part] += clock.seconds(partial(forward_backward, autocast, call, leaves, kwargs))
        return seconds


def in_groups(args: tuple[Any, ...], texts: int) -> list[tuple[Any, ...]]:
    prompts, *rest = args
    changes = rest[0] if rest else NONE
    n_classes = len(prompts.layout.branches)
    size = max(1, texts // len(prompts.layout.roots))
    groups = [range(start, min(start + size, n_classes)) for start in range(0, n_classes, size)]
    return [(prompts.select(group), changes.select(group)) for group in groups]


def leaf(value: Any) -> Any:
    """The same argument, cut off from what it came from; it asks for a gradient where it did."""
    if isinstance(value, TextPrompts):
        return replace(value, root=leaf(value.root), branch=leaf(value.branch))
    if isinstance(value, Changes):
        return value.map(leaf)
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value


def asks_for_gradient(value: Any) -> bool:
    tensors = value.tensors() if isinstance(value, Changes) else [getattr(value, "root", value)]
    return any(getattr(tensor, "requires_grad", False) for tensor in tensors)


def forward_backward(autocast: Any, call: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    wanted = any(asks_for_gradient(value) for value in [*args, *kwargs.values()])
    with autocast(), torch.set_grad_enabled(wanted):
        out = call(*args, **kwargs)
    outputs = [part for part in (out if isinstance(out, tuple) else (out,)) if part is not None]
    if wanted:
        torch.autograd.backward(outputs, [torch.ones_like(part) for part in outputs])
