"""What only a GPU shows of the transport: where its time goes, the prompt level, budgets and sizes of programs.

Parts of ``benchmarks/transport.py --device cuda``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from alignment import prompt_plan, token_transport

BUDGETS = (16, 32, 64, 128, 256, 512, 1024)  # MB of scores and flows at a time
WARP_CELLS = (1024, 2048, 4096)  # cells of a problem that one warp holds
PROMPT_LEVELS = (  # images, classes, image side, text side, stopping rule
    (4, 100, 4, 4, "problem"),
    (4, 1000, 4, 4, "problem"),
    (100, 1000, 4, 4, "problem"),
    (100, 1000, 4, 4, "release"),
    (100, 100, 16, 16, "problem"),
    (32, 100, 196, 4, "release"),  # PLOT
)


def kernels(f: Callable[[], Any]) -> list[tuple[str, float, int]]:
    """Name, milliseconds and number of launches of the kernels of a call, the longest first."""
    f()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        f()
        torch.cuda.synchronize()
    found = [(e.key, e.self_device_time_total / 1e3, e.count) for e in profile.key_averages()]
    return sorted(found, key=lambda kernel: -kernel[1])


def milliseconds(f: Callable[[], Any], repeat: int) -> float:
    """Median by the device's clock, after two calls that count nothing."""
    times = []
    for i in range(repeat + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        f()
        end.record()
        end.synchronize()
        if i >= 2:
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def in_graph(f: Callable[[], Any]) -> Callable[[], Any]:
    """The call as a replay of a captured CUDA graph: what is left when nobody waits for Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        f()
        f()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        f()
    return graph.replay


def prompt_level(repeat: int) -> Iterator[dict[str, Any]]:
    """Times of the plans of dense costs: plain, fused, fused in a captured graph, and the commodity kernel's."""
    from benchmarks import square_kernel

    for B, C, M, N, stop in PROMPT_LEVELS:
        cost = torch.rand(B, C, M, N, device="cuda")
        calls = {
            name: functools.partial(prompt_plan, cost, stop=stop, implementation=name)
            for name in ("plain", "fused")
        }
        record: dict[str, Any] = {"images": B, "classes": C, "sizes": [M, N], "stop": stop}
        record |= {name: milliseconds(f, repeat) for name, f in calls.items()}
        record["captured"] = milliseconds(in_graph(calls["fused"]), repeat)
        if square_kernel.fits(M, N):
            flat = cost.view(-1, M, N)
            record["square"] = milliseconds(functools.partial(square_kernel.square_plans, flat, 0.1), repeat)
        print(
            f"{B:4} images x {C:4} classes, {M:3} x {N:2}, {stop:8}: plain {record['plain']:8.3f} ms  "
            f"fused {record['fused']:8.3f}  captured {record['captured']:8.3f}"
            + (f"  square {record['square']:8.3f}" if "square" in record else ""),
            flush=True,
        )
        yield record


def sweep(x: Tensor, y: Tensor, repeat: int) -> Iterator[dict[str, Any]]:
    """Forward, and forward and backward, for budgets of memory and numbers of cells that a warp holds."""
    from alignment.fused import sizes

    shipped = sizes.WARP_CELLS
    inputs = [t.detach().requires_grad_() for t in (x, y)]
    for cells in WARP_CELLS:
        sizes.WARP_CELLS = cells
        for budget in BUDGETS if cells == shipped else BUDGETS[2:3]:
            options: dict[str, Any] = {"memory": budget * 2**20, "implementation": "fused"}
            forward = functools.partial(token_transport, x, y, **options)

            def both(options=options) -> Any:
                return torch.autograd.grad(token_transport(*inputs, **options).sum(), inputs)

            record: dict[str, Any] = {"memory_mb": budget, "warp_cells": cells}
            record |= {"forward": milliseconds(forward, repeat), "both": milliseconds(both, repeat)}
            times = f"forward {record['forward']:8.3f} ms, both {record['both']:8.3f}"
            print(f"{budget:5} MB, {cells:4} cells a warp: {times}", flush=True)
            yield record
    sizes.WARP_CELLS = shipped
