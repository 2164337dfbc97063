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

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from yacs.config import CfgNode

from foundation.keys.of_all_runs import of

from . import data_parallel
from .capture import Capture, Computation, difference, in_form_of, parts_of
from .capture_key import capture_key
from .cuda_graphs import CUDARecorder, Recorder
from .host_random import HostRandom

CHOICES = ("auto", "True", "False")
WARM_UP = 3  #: eager calls of each key before it is captured
PATIENCE = 25  #: further ones whose numbers are not finite
MOST = 8  #: captures of one kind; what comes later runs eagerly
#: What rounding explains, of the largest value; the latter for 16 bits and TF32.
FP32, LOW_PRECISION = 1e-3, 5e-2
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
Thing = TypeVar("Thing")


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
    if obstacle is None and (choice == "True" or data_parallel.count() == 1):
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
    if data_parallel.count() > 1:
        gpu = torch.cuda.get_device_properties(trainer.device)
        ids = data_parallel.collect(str(gpu.uuid))
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
        self._captures: dict[Any, Capture] = {}
        self._seen: Counter[Any] = Counter()

    def __call__(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """``function(*inputs)``: a tensor, or a (named) tuple of tensors."""
        if self.recorder is None or self._needs_python(inputs):
            return function(*inputs)
        key = capture_key(function, inputs, self.model)
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

    def _watched(self, result: Any) -> Any:
        """An eager result. Captures have gradients of its scalars alone: it is noted if another one's is asked for."""
        parts = parts_of(result)
        if parts is None:
            return result
        watched = [part.view_as(part) if part.requires_grad and part.dim() else part for part in parts]
        for ours, part in zip(watched, parts):
            if ours is not part:
                ours.register_hook(lambda _: self._give_up("a gradient is asked of more than the loss"))
        return in_form_of(result, watched)

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
        before, host = recorder.random_state(), HostRandom(device)
        try:
            with _uncached():
                computation = Computation(function, inputs)
                eager, reason = _attempt(lambda: recorder.beside(lambda: computation.all(scale, names)))
                if reason is None and host.was_drawn_from():
                    reason = "random numbers are drawn on the CPU"
                finite = eager is None or all(bool(torch.isfinite(value).all()) for value in eager.values())
                if not data_parallel.all_of(
                    finite
                ):  # loss scaling still looks for its scale, or the run is to end
                    patient = self._seen[key] <= WARM_UP + PATIENCE
                    return None if patient else "the numbers to compare are not finite"
                capture = None
                if reason is None:
                    capture, reason = _attempt(lambda: Capture(recorder, function, inputs))
            if data_parallel.all_of(reason is None) and capture is not None and eager is not None:
                recorder.set_random_state(before)
                reason = difference(capture.all(inputs, scale, names), eager, self._tolerance(device.type))
                if data_parallel.all_of(reason is None):
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


def _attempt(call: Callable[[], Thing]) -> tuple[Thing | None, str | None]:
    """What a call returns, or why it failed."""
    try:
        return call(), None
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        return None, f"{type(error).__name__}: {said}"


@contextmanager
def _uncached() -> Iterator[None]:
    """Autocast without its cache: a cast made outside of a capture would not be made again by a replay."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
