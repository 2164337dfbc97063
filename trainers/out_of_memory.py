"""Running out of a GPU's memory: one line that says what would take less."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foundation.keys.of_all_runs import of

from .class_texts import GIB


@contextmanager
def advised(trainer: Any, training: bool) -> Iterator[None]:
    """Of the body's steps, or of its evaluation.

    Raises:
        MemoryError: with what to change, instead of torch's OutOfMemoryError.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        place = f"in epoch {trainer.epoch + 1} of {trainer.max_epoch}" if training else "in the evaluation"
        less = ", or ".join(savings(trainer, training))
        raise MemoryError(
            f"out of GPU memory {place} ({_size(trainer, error)}); less takes: {less}"
        ) from error


def savings(trainer: Any, training: bool) -> list[str]:
    """Settings that take less memory than the trainer's, those that change no result first."""
    cfg, texts = trainer.cfg, trainer.model.class_texts
    classes = len(texts.classes) if texts.classes is not None else trainer.num_classes
    at_once = min(texts.classes_at_once(training) or classes, classes)
    advice = []
    if at_once > 1:
        less = f"{texts.memory / 2:g} GiB" if texts.memory else "in GiB"
        advice.append(
            f"MODEL.TEXT_CHUNK {at_once // 2} (class texts at once, now {at_once}; or MODEL.TEXT_MEMORY, {less})"
        )
    if not training:
        chunk = of(cfg, "TEST.CLASS_CHUNK") or trainer.num_classes
        if chunk > 1:
            advice.append(f"TEST.CLASS_CHUNK {chunk // 2} (classes scored at once, now {chunk})")
    if str(of(cfg, "TRAIN.CUDA_GRAPH")) != "False" and trainer.captured.recorder is not None:
        advice.append("TRAIN.CUDA_GRAPH False")
    part = "TRAIN_X" if training else "TEST"
    batch = cfg.DATALOADER[part].BATCH_SIZE
    if batch > 1:
        advice.append(f"DATALOADER.{part}.BATCH_SIZE {batch // 2} (now {batch})")
    if trainer.precision() == "fp32" and hasattr(trainer, "section"):
        advice.append(f"TRAINER.{trainer.section}.PREC bf16 (now fp32)")
    return advice or ["a smaller backbone, or a GPU with more"]


def _size(trainer: Any, error: torch.OutOfMemoryError) -> str:
    """How much there is, or what torch says of it."""
    if trainer.device.type != "cuda" or not torch.cuda.is_available():
        return (str(error).splitlines() or ["torch gives no size"])[0].rstrip(".")
    total = torch.cuda.get_device_properties(trainer.device).total_memory
    peak = torch.cuda.max_memory_allocated(trainer.device)
    return f"it has {total / GIB:.1f} GiB, this run had taken up to {peak / GIB:.1f}"
