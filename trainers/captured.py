"""Captured steps: what a GPU computes is recorded once as a CUDA graph, then replayed with one launch.

Issuing the kernels of a step one by one takes Python longer than the GPU takes to compute them. A capture records a
function of tensors (a model's loss, an evaluation's scores) with the gradient of each of its scalar results, on buffers
that stay where they are: a step copies its batch into them and replays. Everything around that function stays outside
and as it is: loss scaling, hooks of the trainer, sums over processes, the optimiser, the schedule.

What is computed is known by a key: the function, shapes and dtypes of its inputs, autocast, and the model's parameters,
mode and plain attributes (a stage, a temperature). Each key runs eagerly ``WARM_UP`` times, in which kernels are
compiled and chosen, then it gets a capture of its own, of ``MOST`` at most. Before its first use a capture is compared
with the eager computation of the same batch. Where it differs, or cannot be made, one warning says why, and everything
runs eagerly from then on.
"""

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from yacs.config import CfgNode

from foundation.keys.of_all_runs import of

from . import processes

CHOICES = ("auto", "True", "False")
WARM_UP = 3  #: eager calls of each key before it is captured
PATIENCE = 25  #: further ones whose numbers are not finite
MOST = 8  #: captures of one kind; what comes later runs eagerly
FP32, LOW_PRECISION = (
    1e-3,
    5e-2,
)  #: what rounding explains, of the largest value; the latter for 16 bits and TF32
Thing = TypeVar("Thing")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Recorder(Protocol):
    """What can record: a GPU."""

    def beside(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, computed where recordings are made: allocations and libraries are then prepared."""

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """A function that does again what ``call`` does, and what ``call`` returns: tensors that it then sets anew."""

    def release(self) -> None:
        """Give back the memory of recordings that are gone."""

    def random_state(self) -> Tensor:
        """Of the generator whose numbers a replay draws anew."""

    def set_random_state(self, state: Tensor) -> None: ...


class CUDARecorder:
    """Records CUDA graphs on a stream of its own. All of them share their memory: one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self.index = torch.cuda.current_device() if device.index is None else device.index
        self.stream = torch.cuda.Stream(self.index)
        self.pool: Any = None
        self._keeper: Any = None

    def beside(self, call: Callable[[], Any]) -> Any:
        current = torch.cuda.current_stream(self.index)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = call()
        current.wait_stream(self.stream)
        torch.cuda.synchronize(self.index)  # its tensors may now be used, and freed, on any stream
        return result

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
            # A pool lives as long as a graph that uses it, and cannot be revived: this one is kept.
            self._keeper = self._record(lambda: torch.zeros(1, device=f"cuda:{self.index}"))
        return self._record(call)

    def _record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        graph, generator = torch.cuda.CUDAGraph(), torch.cuda.default_generators[self.index]
        spare = generator.clone_state()
        torch.cuda.synchronize(self.index)
        torch.cuda.empty_cache()
        collecting = gc.isenabled()
        gc.disable()  # it might free what must not be freed during a capture
        try:
            # torch.cuda.graph would leave the thread on this stream where the end of a failed capture fails, too.
            with torch.cuda.stream(self.stream):
                # The data loader's pinning thread and NCCL's watchdog call CUDA meanwhile; they are no part of it.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    result = call()
                except BaseException:
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
        except BaseException:
            generator.graphsafe_set_state(spare)  # the other one may still believe that it is being captured
            raise
        finally:
            if collecting:
                gc.enable()
        return graph.replay, result

    def release(self) -> None:
        self.pool = self._keeper = None  # others that still use it keep it
        torch.cuda.empty_cache()

    def random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self.index)

    def set_random_state(self, state: Tensor) -> None:
        torch.cuda.set_rng_state(state, self.index)


def recorder(trainer: Any) -> Recorder | None:
    """What a trainer's steps are captured by, as ``TRAIN.CUDA_GRAPH`` says; None: they are not.

    ``auto`` captures where one process computes on a GPU; in several, ``True`` does.

    Raises:
        ValueError: ``True``, but it cannot be; or another value than auto, True and False.
    """
    cfg: CfgNode = trainer.cfg
    choice = str(of(cfg, "TRAIN.CUDA_GRAPH"))
    if choice not in CHOICES:
        raise ValueError(f"TRAIN.CUDA_GRAPH is {choice!r}, choose from: {', '.join(CHOICES)}")
    if choice == "False":
        return None
    obstacle = _obstacle(trainer)
    if obstacle is None and (choice == "True" or processes.count() == 1):
        return CUDARecorder(trainer.device)
    if choice == "True":
        raise ValueError(f"TRAIN.CUDA_GRAPH is True, but {obstacle}: choose auto or False")
    return None


def _obstacle(trainer: Any) -> str | None:
    cfg: CfgNode = trainer.cfg
    sample = of(cfg, "TRAINER.CLASS_SAMPLE")
    if trainer.device.type != "cuda" or not torch.cuda.is_available():
        return f"this run computes on the {trainer.device.type.upper()}, and only a GPU captures steps"
    if not getattr(trainer, "checks_losses_later", False):
        return "the original Dassl's engine waits for every step"
    if of(cfg, "TRAIN.CUDA_GRAPH") == "auto":
        return None  # what follows concerns training alone, and is found out there
    if sample:
        return f"TRAINER.CLASS_SAMPLE is {sample}, so every step computes other class texts"
    if of(cfg, "TRAIN.FEATURE_CACHE"):
        return "TRAIN.FEATURE_CACHE looks up image features on the CPU in every step"
    if processes.count() > 1:
        gpu = torch.cuda.get_device_properties(trainer.device)
        ids = processes.collect(str(gpu.uuid))
        if len(set(ids)) < len(ids):
            return f"{len(ids)} processes have {len(set(ids))} GPU between them, one each is needed"
    return None


class Captured:
    """Calls functions of tensors, by captures where it can.

    Args:
        recorder: None: every call is eager.
        model: the PromptModel whose method is called, or which what is called uses.
        what: is captured, for the warning: "training steps".
        scale: of the losses, when gradients are compared.
    """

    def __init__(
        self,
        recorder: Recorder | None = None,
        model: Any = None,
        what: str = "",
        scale: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.recorder, self.model, self.what, self.scale = recorder, model, what, scale
        towers = [] if model is None else [*model.clip.image.modules(), *model.clip.text.modules()]
        self._tower_hooks = [getattr(module, kind) for module in towers for kind in HOOKS]
        self.forget()

    def forget(self) -> None:
        """Drop all captures; what is computed next is something else."""
        self._captures: dict[Any, _Capture] = {}
        self._seen: Counter[Any] = Counter()

    def __call__(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """``function(*inputs)``: a tensor, or a (named) tuple of tensors."""
        if self.recorder is None or self._needs_python(inputs):
            return function(*inputs)
        key = self._key(function, inputs)
        if key not in self._captures:
            self._seen[key] += 1
            if self._seen[key] <= WARM_UP or len(self._captures) >= MOST:
                if len(self._seen) > 1000:  # something changes with every step
                    self._seen.clear()
                return self._watched(function(*inputs))
            if reason := self._capture(key, function, inputs):
                self._give_up(reason)
            if key not in self._captures:
                return function(*inputs)
        return self._captures[key](inputs)

    def _needs_python(self, inputs: Sequence[Tensor]) -> bool:
        """Whether a capture would leave something out, or something changes with every call."""
        model = self.model
        cached = model.feature_cache is not None and (not model.training or model.cache_training)
        sampled = model.class_texts.classes is not None
        hooked = any(self._tower_hooks) or any(getattr(m, kind) for m in model.modules() for kind in HOOKS)
        hooked = hooked or any(parameter._backward_hooks for parameter in model.parameters())
        return cached or sampled or hooked or any(x.requires_grad for x in inputs)

    def _key(self, function: Any, inputs: Sequence[Tensor]) -> Any:
        device = inputs[0].device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        of_inputs = [(x.shape, x.dtype, x.device, x.stride()) for x in inputs]
        called = getattr(function, "__func__", function), id(getattr(function, "__self__", None))
        return called, torch.is_grad_enabled(), autocast, *of_inputs, *_state(self.model)

    def _watched(self, result: Any) -> Any:
        """An eager result. Captures have gradients of its scalars alone: it is noted if another one's is asked for."""
        parts = _parts(result)
        if parts is None:
            return result
        watched = [part.view_as(part) if part.requires_grad and part.dim() else part for part in parts]
        for ours, part in zip(watched, parts):
            if ours is not part:
                ours.register_hook(lambda _: self._give_up("a gradient is asked of more than the loss"))
        return _like(result, watched)

    def _give_up(self, reason: str) -> None:
        recorder, self.recorder = self.recorder, None
        self.forget()
        if recorder is not None:
            print(f"Warning: TRAIN.CUDA_GRAPH: {self.what} run without captures: {reason}")
            recorder.release()

    def _capture(self, key: Any, function: Any, inputs: Sequence[Tensor]) -> str | None:
        """Add a capture, unless this batch's numbers are not finite; or say what is in the way.

        Several processes go through this together: what they compute may be exchanged between them.
        """
        assert self.recorder is not None
        recorder, scale, device = self.recorder, self.scale(), inputs[0].device
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        before, host = recorder.random_state(), _HostRandom(device)
        try:
            with _uncached():
                computation = _Computation(function, inputs)
                eager, reason = _attempt(lambda: recorder.beside(lambda: computation.all(scale, names)))
                if reason is None and host.was_drawn_from():
                    reason = "random numbers are drawn on the CPU"
                finite = eager is None or all(bool(torch.isfinite(value).all()) for value in eager.values())
                if not processes.all_of(
                    finite
                ):  # loss scaling still looks for its scale, or the run is to end
                    patient = self._seen[key] <= WARM_UP + PATIENCE
                    return None if patient else "the numbers to compare are not finite"
                capture = None
                if reason is None:
                    capture, reason = _attempt(lambda: _Capture(recorder, function, inputs))
            if processes.all_of(reason is None) and capture is not None and eager is not None:
                recorder.set_random_state(before)
                reason = _difference(capture.all(inputs, scale, names), eager, self._tolerance(device.type))
                if processes.all_of(reason is None):
                    self._captures[key] = capture
                    return None
            return reason or "another process cannot"
        finally:
            host.restore()
            recorder.set_random_state(before)

    def _tolerance(self, device: str) -> float:
        low = torch.is_autocast_enabled(device) or torch.backends.cuda.matmul.allow_tf32
        low = low or any(p.dtype != torch.float32 for p in self.model.clip.parameters())
        return LOW_PRECISION if low else FP32


class _Computation:
    """A function of tensors, and the gradients of its scalar results."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self.function, self.inputs = function, inputs

    def forward(self) -> list[Tensor]:
        self.result = self.function(*self.inputs)
        parts = _parts(self.result)
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


class _Capture:
    """One recorded function: its buffers, and what replays it."""

    #: Stands for the last replay of any capture: they overwrite one another's activations.
    latest: object = None

    def __init__(self, recorder: Recorder, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self.inputs = [x.detach().clone() for x in inputs]
        computation = _Computation(function, self.inputs)
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
        self.like = _like(computation.result, self.results)
        computation.result = computation.live = []  # the activations' memory is the pool's again

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        return _like(self.like, _Replay.apply(self, inputs, *self.leaves))

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        _Capture.latest = object()
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
        """As that of _Computation."""
        results, gradients = self.forward(inputs), {}
        for i in self._backward:
            seeds = [torch.full_like(r, scale) if i == j else None for j, r in enumerate(results)]
            gradients[i] = self.backward(seeds)
        return _named(results, gradients, self.leaves, names)


class _Replay(torch.autograd.Function):
    """A capture as a part of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, capture: _Capture, inputs: Sequence[Tensor], *leaves: Tensor) -> tuple[Tensor, ...]:
        results = capture.forward(inputs)
        ctx.capture, ctx.turn = capture, _Capture.latest
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[r for r, wanted in zip(results, capture.differentiable) if not wanted])
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: Tensor | None) -> tuple[Any, ...]:
        if ctx.turn is not _Capture.latest:
            raise RuntimeError("a later captured step has overwritten this one; set TRAIN.CUDA_GRAPH False")
        return None, None, *ctx.capture.backward(seeds)


def _state(model: Any) -> Iterator[Any]:
    """What a model computes with: addresses of its tensors, its mode and plain attributes, others by identity."""
    yield model.class_texts.chunk, model.class_texts.memory
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            yield None if tensor is None else (tensor.data_ptr(), tensor.requires_grad)
        for name, value in vars(module).items():
            if not name.startswith("_"):
                yield value if isinstance(value, (bool, int, float, str)) else id(value)


def _parts(result: Any) -> list[Tensor] | None:
    """The tensors of a result; None where it holds something else."""
    parts = list(result) if isinstance(result, tuple) else [result]
    return parts if parts and all(isinstance(part, Tensor) for part in parts) else None


def _like(result: Any, parts: Sequence[Tensor]) -> Any:
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


def _difference(ours: dict[str, Tensor], eager: dict[str, Tensor], tolerance: float) -> str | None:
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


def _attempt(call: Callable[[], Thing]) -> tuple[Thing | None, str | None]:
    """What a call returns, or why it failed."""
    try:
        return call(), None
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        return None, f"{type(error).__name__}: {said}"


class _HostRandom:
    """The states of the generators that a replay does not draw from."""

    def __init__(self, device: torch.device) -> None:
        self.with_torch = device.type != "cpu"
        self.states = self._now()

    def _now(self) -> tuple[Any, ...]:
        _, keys, *place = np.random.get_state(legacy=True)  # noqa: NPY002
        torchs = bytes(torch.get_rng_state().numpy()) if self.with_torch else b""
        return random.getstate(), (keys.tobytes(), *place), torchs  # type: ignore[union-attr]

    def was_drawn_from(self) -> bool:
        return self._now() != self.states

    def restore(self) -> None:
        pythons, (keys, *place), torchs = self.states
        random.setstate(pythons)
        np.random.set_state(("MT19937", np.frombuffer(keys, dtype=np.uint32), *place))  # noqa: NPY002
        if torchs:
            torch.set_rng_state(torch.frombuffer(bytearray(torchs), dtype=torch.uint8))


@contextmanager
def _uncached() -> Iterator[None]:
    """Autocast without its cache: a cast made outside of a capture would not be made again by a replay."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
