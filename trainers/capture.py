"""A function of tensors as it is captured: its results, the gradients of its scalars, and both as a part of autograd.

The results are recorded once, and so is the backward pass from each scalar, on buffers that stay where they are. A
replay copies its inputs into them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clip import kept

from .cuda_graphs import Recorder


class Computation:
    """A function of tensors, and the gradients of its scalar results."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self.function, self.inputs = function, inputs

    def forward(self) -> list[Tensor]:
        self.result = self.function(*self.inputs)
        parts = parts_of(self.result)
        if parts is None:
            raise TypeError(f"{self.function.__qualname__} returns something else than tensors")
        self.live = parts
        return [part.detach() for part in parts]

    def scalars(self) -> list[int]:
        return [i for i, part in enumerate(self.live) if part.requires_grad and not part.dim()]

    def backward(
        self, i: int, seed: Tensor, leaves: Sequence[Tensor], keep: bool
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast(seed.device.type, enabled=False):  # as behind the context of the forward pass
            return torch.autograd.grad(self.live[i], leaves, seed, retain_graph=keep, allow_unused=True)

    def all(self, scale: float, names: dict[int, str]) -> dict[str, Tensor]:
        """Results and gradients, by what they are."""
        results, gradients = self.forward(), {}
        leaves, scalars = _leaves(self.live), self.scalars()
        for i in scalars:
            seed = torch.full_like(results[i], scale)
            gradients[i] = self.backward(i, seed, leaves, keep=i != scalars[-1])
        self.result = self.live = []
        return _named(results, gradients, leaves, names)


class Capture:
    """One recorded function: its buffers, and what replays it."""

    #: Stands for the last replay of any capture: they overwrite one another's activations.
    latest: object = None

    def __init__(self, recorder: Recorder, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self.inputs = [x.detach().clone() for x in inputs]
        computation = Computation(function, self.inputs)
        with kept() as self._looked_up:  # a replay reads it again
            self._record(recorder, computation)
        self.like = in_form_of(computation.result, self.results)
        computation.result = computation.live = []  # the activations' memory is the pool's again

    def _record(self, recorder: Recorder, computation: Computation) -> None:
        self._forward, self.results = recorder.record(computation.forward)
        self.differentiable = [part.requires_grad for part in computation.live]
        self.leaves, scalars = _leaves(computation.live), computation.scalars()
        self.seeds = {i: torch.ones_like(self.results[i]) for i in scalars}
        self._backward = {
            i: recorder.record(
                partial(computation.backward, i, self.seeds[i], self.leaves, keep=i != scalars[-1])
            )
            for i in scalars
        }

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        return in_form_of(self.like, _Replay.apply(self, inputs, *self.leaves))

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        Capture.latest = object()
        for buffer, given in zip(self.inputs, inputs):
            buffer.copy_(given, non_blocking=True)
        self._forward()
        return [result.clone() for result in self.results]  # the next replay overwrites them

    def backward(self, seeds: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradients of the leaves, where those of the results are ``seeds``."""
        total: list[Tensor | None] = [None] * len(self.leaves)
        for i, seed in enumerate(seeds):
            if seed is None:
                continue
            if i not in self._backward:
                raise RuntimeError(
                    "a captured step has the gradients of its losses alone; set TRAIN.CUDA_GRAPH False"
                )
            self.seeds[i].copy_(seed)
            replay, gradients = self._backward[i]
            replay()
            for n, gradient in enumerate(gradients):
                if gradient is not None:
                    before = total[n]
                    total[n] = gradient.clone() if before is None else before + gradient
        return total

    def all(self, inputs: Sequence[Tensor], scale: float, names: dict[int, str]) -> dict[str, Tensor]:
        """As that of Computation."""
        results, gradients = self.forward(inputs), {}
        for i in self._backward:
            seeds = [torch.full_like(r, scale) if i == j else None for j, r in enumerate(results)]
            gradients[i] = self.backward(seeds)
        return _named(results, gradients, self.leaves, names)


class _Replay(torch.autograd.Function):
    """A capture as a part of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, capture: Capture, inputs: Sequence[Tensor], *leaves: Tensor) -> tuple[Tensor, ...]:
        results = capture.forward(inputs)
        ctx.capture, ctx.turn = capture, Capture.latest
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[r for r, wanted in zip(results, capture.differentiable) if not wanted])
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: Tensor | None) -> tuple[Any, ...]:
        if ctx.turn is not Capture.latest:
            raise RuntimeError("a later captured step has overwritten this one; set TRAIN.CUDA_GRAPH False")
        return None, None, *ctx.capture.backward(seeds)


def parts_of(result: Any) -> list[Tensor] | None:
    """The tensors of a result; None where it holds something else."""
    parts = list(result) if isinstance(result, tuple) else [result]
    return parts if parts and all(isinstance(part, Tensor) for part in parts) else None


def in_form_of(result: Any, parts: Sequence[Tensor]) -> Any:
    """``parts`` in the form of ``result``."""
    if not isinstance(result, tuple):
        return parts[0]
    return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)


def _leaves(results: Sequence[Tensor]) -> list[Tensor]:
    """The leaves of autograd's graph that results come from, each once."""
    nodes = [part.grad_fn for part in results if part.grad_fn is not None]
    seen, leaves = set(nodes), []
    while nodes:
        node: Any = nodes.pop()
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return leaves


def _named(
    results: Sequence[Tensor],
    gradients: Mapping[int, Sequence[Tensor | None]],
    leaves: Sequence[Tensor],
    names: dict[int, str],
) -> dict[str, Tensor]:
    """Floating-point results and gradients by what they are."""
    named = {f"result {i + 1}": part for i, part in enumerate(results) if part.is_floating_point()}
    for i, of_leaves in gradients.items():
        for n, (leaf, gradient) in enumerate(zip(leaves, of_leaves)):
            if gradient is not None:
                named[f"the gradient of result {i + 1} for {names.get(id(leaf), f'tensor {n + 1}')}"] = (
                    gradient
                )
    return named


def difference(ours: dict[str, Tensor], eager: dict[str, Tensor], tolerance: float) -> str | None:
    """Where a capture differs from the eager computation by more than the tolerance."""
    if ours.keys() != eager.keys():
        return "other gradients than those of the eager computation came out"
    for name, expected in eager.items():
        if expected.numel():
            largest = expected.float().abs().max().item()
            error = (ours[name].float() - expected.float()).abs().max().item()
            if not error <= tolerance * largest:
                return f"{name} is off by {error:.3g}, where the eager one's largest value is {largest:.3g}"
    return None
