"""What a GPU does during a call: the time that it is busy, its kernels, and how often Python waits for it."""

import statistics
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import Clock


def milliseconds(call: Callable[[], Any], times: int, device: str) -> float:
    """Median of single calls, each waited for."""
    clock = Clock(device)
    return 1e3 * statistics.median(clock.seconds(call) for _ in range(times))


def in_a_row(call: Callable[[], Any], times: int, device: str) -> float:
    """Milliseconds a call where none is waited for but the last, as in training."""

    def calls() -> None:
        for _ in range(times):
            call()

    return 1e3 * Clock(device).seconds(calls) / times


def kernels(call: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds that the GPU is busy, the number of its kernels and copies, and the longest of them."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    taken = defaultdict(list)
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            taken[event.name].append(event.device_time_total / 1e3)
    longest = sorted(taken.items(), key=lambda item: -sum(item[1]))[:12]
    return {
        "busy_ms": sum(map(sum, taken.values())),
        "kernels": sum(map(len, taken.values())),
        "longest": [[name[:100], len(times), sum(times)] for name, times in longest],
    }


def waits(call: Callable[[], Any]) -> dict[str, int]:
    """Where Python waits for the GPU, and how often."""
    places: Counter[str] = Counter()

    def note(message: Any, *_: Any, **__: Any) -> None:
        if "called a synchronizing" in str(message):  # not what torch says of this mode itself
            frames = [f for f in traceback.extract_stack() if "site-packages" not in f.filename]
            places[" < ".join(f"{f.filename}:{f.lineno}" for f in reversed(frames[-4:-1]))] += 1

    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return dict(places)
