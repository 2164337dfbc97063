"""Token transport: time, memory and problems per second of implementations, side by side in one run.

    python benchmarks/transport.py                              # training sizes on the CPU
    python benchmarks/transport.py --busy                       # likewise, while another process computes
    python benchmarks/transport.py --device cuda --dtype bfloat16 --output transport.json
    python benchmarks/transport.py --device cuda --dtype bfloat16 --evaluation --sweep --classes 1000

  loop     image by image and class by class, asking after every Sinkhorn iteration, as released code does
  batched  all problems at once in torch, asking after every iteration; its step compiled (torch.compile)
  pot      POT's batched solver on the cost matrices, its gradient detached (all stop together, by its own rule)
  square   a doubly stochastic kernel with a fixed number of iterations (on a GPU, sets of equal size up to 16)
  plain    alignment's plain solver
  fused    alignment's fused solver (on a GPU); captured: the same as a replayed CUDA graph
  product  the similarities of all tokens alone, one matrix product: what the solvers are measured against

The implementations take turns, so that a disturbance meets all of them; the numbers are medians. Peak memory is
what is taken beyond the features. On a GPU the floor is printed too: operations over the rate measured on a large
matrix product, or bytes over the measured bandwidth, whichever takes longer; so are the kernels that the time goes to,
and the prompt level. ``--sweep`` times the fused solver's budgets and sizes of programs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import ctypes
import functools
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment import token_transport
from benchmarks import transport_gpu

EPS, MAX_ITER, TOL = 0.1, 100, 1e-2
BUSY = "import torch; torch.set_num_threads({}); a = torch.rand(1500, 1500)\nwhile True: a @ a"


def loop(x: Tensor, y: Tensor) -> Tensor:
    """Costs (B, C, M, N), one image and class after the other."""
    (B, M, P, _), (C, N, L, _) = x.shape, y.shape
    costs = []
    for b in range(B):
        for c in range(C):
            cost = 1 - torch.einsum("mpd,nld->mnpl", x[b], y[c]).reshape(M * N, P, L)
            with torch.no_grad():
                kernel = torch.exp(-cost / EPS)
                r, col = cost.new_ones(M * N, P), cost.new_ones(M * N, L)
                for _ in range(MAX_ITER):
                    previous = r
                    r = 1 / P / torch.matmul(kernel, col.unsqueeze(-1)).squeeze(-1)
                    col = 1 / L / torch.matmul(kernel.transpose(1, 2), r.unsqueeze(-1)).squeeze(-1)
                    if (r - previous).abs().mean().item() < TOL:
                        break
                plan = r.unsqueeze(-1) * kernel * col.unsqueeze(-2)
            costs.append((plan * cost).sum((1, 2)))
    return torch.stack(costs).view(B, C, M, N)


def pot(x: Tensor, y: Tensor) -> Tensor:
    from ot.batch import solve_batch

    (B, M, P, _), (C, N, L, _) = x.shape, y.shape
    cost = 1 - torch.einsum("bmpd,cnld->bcmnpl", x, y).reshape(-1, P, L)
    plan = solve_batch(cost.detach(), EPS, max_iter=MAX_ITER, tol=TOL, method="sinkhorn", grad="detach").plan
    return (plan * cost).sum((1, 2)).view(B, C, M, N)


def batched(x: Tensor, y: Tensor) -> Tensor:
    """All problems in one tensor; one that has stopped keeps its scalings."""
    (B, M, P, _), (C, N, L, _) = x.shape, y.shape
    cost = 1 - torch.einsum("bmpd,cnld->bcmnpl", x, y).reshape(-1, P, L).float()
    step = _compiled_step()
    with torch.no_grad():
        kernel = torch.exp(-cost / EPS)
        r, col = cost.new_ones(len(cost), P, 1), cost.new_ones(len(cost), 1, L)
        running = torch.ones(len(cost), 1, 1, dtype=torch.bool, device=cost.device)
        for _ in range(MAX_ITER):
            r, col, running = step(kernel, r, col, running)
            if not running.any():
                break
        plan = r * kernel * col
    return (plan * cost).sum((1, 2)).view(B, C, M, N)


@functools.cache
def _compiled_step() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def step(kernel: Tensor, r: Tensor, col: Tensor, running: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new_r = 1 / kernel.shape[1] / (kernel * col).sum(2, keepdim=True)
        new_col = 1 / kernel.shape[2] / (kernel * new_r).sum(1, keepdim=True)
        still = running & ((new_r - r).abs().mean(1, keepdim=True) >= TOL)
        return torch.where(running, new_r, r), torch.where(running, new_col, col), still

    return torch.compile(step, dynamic=True)


def square(x: Tensor, y: Tensor) -> Tensor:
    from benchmarks.square_kernel import square_plans

    (B, M, P, _), (C, N, L, _) = x.shape, y.shape
    cost = 1 - torch.einsum("bmpd,cnld->bcmnpl", x, y).reshape(-1, P, L).float()
    return (square_plans(cost.detach(), EPS) * cost).sum((1, 2)).view(B, C, M, N)


def ours(x: Tensor, y: Tensor, implementation: str, memory: int) -> Tensor:
    return token_transport(
        x, y, eps=EPS, max_iter=MAX_ITER, tol=TOL, implementation=implementation, memory=memory
    )


def product(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("bmpd,cnld->bcmnpl", x, y)


def features(*shape: int, seed: int, device: str, dtype: torch.dtype) -> Tensor:
    """Random tokens with a common direction, as CLIP's have: 3 to 6 iterations until the release's rule stops."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(shape[-1], generator=torch.Generator().manual_seed(0))
    return F.normalize(torch.randn(shape, generator=generator) + 0.7 * common, dim=-1).to(device, dtype)


class Meter:
    """Seconds, or peak extra bytes, of a call."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def seconds(self, f: Callable[[], Any]) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        f()
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def bytes(self, f: Callable[[], Any]) -> int:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            f()
            return torch.cuda.max_memory_allocated() - before
        ctypes.CDLL(None).malloc_trim(
            0
        )  # what earlier calls left in the allocator would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak of the resident set back to its size
        before = self._status("VmRSS")
        f()
        return self._status("VmHWM") - before

    @staticmethod
    def _status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def with_gradient(f: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Callable[[], Any]:
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    return lambda: torch.autograd.grad(f(x, y).sum(), (x, y))


def with_capture(calls: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    if "fused" not in calls:
        return calls
    return {**calls, "captured": transport_gpu.in_graph(calls["fused"])}


def measure(calls: dict[str, Callable[[], Any]], repeat: int, device: str) -> dict[str, dict[str, float]]:
    meter = Meter(device)
    for f in calls.values():
        f()
    peaks = {name: meter.bytes(f) for name, f in calls.items()}
    for f in calls.values():
        f()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, f in calls.items():
            times[name].append(meter.seconds(f))
    return {
        name: {"seconds": statistics.median(t), "fastest": min(t), "peak_bytes": peaks[name]}
        for name, t in times.items()
    }


def device_rates(dtype: torch.dtype) -> dict[str, float]:
    """Operations and bytes per second of the GPU, measured."""
    meter = Meter("cuda")
    a = torch.randn(8192, 8192, device="cuda").to(dtype)
    big = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    flops = 2 * 8192**3 / min(meter.seconds(lambda: a @ a) for _ in range(10))
    bandwidth = 2 * 2**30 / min(meter.seconds(big.clone) for _ in range(10))
    return {"operations_per_second": flops, "bytes_per_second": bandwidth}


def run(
    images: int, classes: int, options: argparse.Namespace, rates: dict[str, float] | None
) -> dict[str, Any]:
    device, dtype = options.device, getattr(torch, options.dtype)
    M = N = options.prompts
    x = features(images, M, options.image_tokens, options.width, seed=1, device=device, dtype=dtype)
    y = features(classes, N, options.text_tokens, options.width, seed=2, device=device, dtype=dtype)
    problems = images * classes * M * N
    cells = problems * options.image_tokens * options.text_tokens
    memory = options.memory * 2**20
    methods: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "product": product,
        "plain": functools.partial(ours, implementation="plain", memory=memory),
    }
    if device == "cuda":
        methods["fused"] = functools.partial(ours, implementation="fused", memory=memory)
    if images * classes <= options.loop_most:
        methods["loop"] = loop
    if 4 * 4 * cells <= options.pot_most * 2**30:
        methods |= {"batched": batched, "pot": pot}
    if device == "cuda" and options.image_tokens == options.text_tokens <= 16:
        methods["square"] = square
    record: dict[str, Any] = {"images": images, "classes": classes, "problems": problems}
    costs = 4 * cells / 2**20
    print(
        f"\n{images} images x {classes} classes, {M} x {N} prompts: {problems} problems, {costs:.0f} MB of costs"
    )
    once: dict[str, Callable[[], Any]] = {name: functools.partial(f, x, y) for name, f in methods.items()}
    differentiated = {name: with_gradient(f, x, y) for name, f in methods.items() if name != "product"}
    forward = measure(with_capture(once), options.repeat, device)
    both = measure({"product": once["product"], **with_capture(differentiated)}, options.repeat, device)
    record["forward"], record["forward_backward"] = forward, both
    if device == "cuda":
        for name, f in (("forward", once["fused"]), ("forward_backward", differentiated["fused"])):
            record[f"{name}_kernels"] = transport_gpu.kernels(f)
    for direction, results in (("forward", forward), ("forward_backward", both)):
        unit, floor = results["product"]["seconds"], None
        if rates is not None:
            operations = 2 * cells * options.width * (1 if direction == "forward" else 4)
            traffic = (x.nbytes + y.nbytes) * (1 if direction == "forward" else 3) + 4 * problems
            floor = max(operations / rates["operations_per_second"], traffic / rates["bytes_per_second"])
            record[f"{direction}_floor_seconds"] = floor
            for kernel, milliseconds, launches in record[f"{direction}_kernels"][:8]:
                print(f"  {milliseconds:9.3f} ms in {launches:4} launches of {kernel[:90]}")
        for name, r in results.items():
            loop_ratio = (
                f"{results['loop']['seconds'] / r['seconds']:8.1f} times as fast as the loop"
                if "loop" in results
                else ""
            )
            above = f"  {r['seconds'] / floor:6.1f} x floor" if floor else ""
            print(
                f"{direction:17} {name:8} {1e3 * r['seconds']:10.2f} ms  {problems / r['seconds']:12.0f} problems/s "
                f"{r['peak_bytes'] / 2**20:8.0f} MB  {r['seconds'] / unit:7.2f} x product {loop_ratio}{above}"
            )
    return record


def sweep(classes: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    M = N = options.prompts
    dtype = getattr(torch, options.dtype)
    x = features(options.images, M, options.image_tokens, options.width, seed=1, device="cuda", dtype=dtype)
    y = features(classes, N, options.text_tokens, options.width, seed=2, device="cuda", dtype=dtype)
    print(f"\n{options.images} images x {classes} classes, {M} x {N} prompts")
    return list(transport_gpu.sweep(x, y, options.repeat))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--classes", type=int, nargs="+", help="default: 10 50 100 500; evaluation: 100 1000")
    parser.add_argument("--prompts", type=int, default=4, help="visual and textual prompts")
    parser.add_argument("--image-tokens", type=int, default=198)
    parser.add_argument("--text-tokens", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--memory", type=int, default=256, help="MB that plain and fused may take")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--loop-most", type=int, default=2000, help="most image-class pairs that the loop gets"
    )
    parser.add_argument(
        "--pot-most", type=float, default=8, help="most GB that POT and the batched torch get"
    )
    parser.add_argument(
        "--evaluation", action="store_true", help="evaluation sizes instead of training sizes"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="on a GPU: time budgets and sizes of programs, nothing else"
    )
    parser.add_argument("--busy", action="store_true", help="while another process keeps the cores computing")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.evaluation:
        options.images = 100 if options.device == "cuda" else 20
        options.classes = options.classes or ([100, 1000] if options.device == "cuda" else [100])
    options.classes = options.classes or [10, 50, 100, 500]
    if options.sweep and options.device != "cuda":
        parser.error("--sweep needs --device cuda")
    chip = (
        torch.cuda.get_device_name()
        if options.device == "cuda"
        else platform.processor() or platform.machine()
    )
    print(
        f"{chip}, {options.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {options.dtype}"
        + (", another process computing" if options.busy else "")
    )
    rates = device_rates(getattr(torch, options.dtype)) if options.device == "cuda" else None
    other = subprocess.Popen([sys.executable, "-c", BUSY.format(options.threads)]) if options.busy else None
    records, prompts = [], []
    try:
        if options.sweep:
            records = [record for classes in options.classes for record in sweep(classes, options)]
        else:
            records = [run(options.images, classes, options, rates) for classes in options.classes]
            prompts = list(transport_gpu.prompt_level(options.repeat)) if rates is not None else []
    finally:
        if other is not None:
            other.kill()
    if options.output:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
        result: dict[str, Any] = {
            "chip": chip,
            "torch": torch.__version__,
            "load": os.getloadavg(),
            "settings": settings,
        }
        result |= {"rates": rates, "runs": records, "prompt_level": prompts}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
