"""All that is worth measuring on a GPU, within eight minutes.

    python benchmarks/gpu.py --output gpu

Steps at the size of ViT-B/16 (eager, captured, and the plain implementation of plain.py), transport, evaluation,
tests/gpu, every method in every precision. Each part is a process of its own with its own time limit, so that one that
hangs or crashes costs only itself, and what it had measured by then is kept. The most important parts come first;
where ``--minutes`` are over, the others are dropped. The folder gets gpu.json, which is written again after every part,
and gpu.md, where the targets stand beside what was measured.

Without a GPU, or with --cpu, the same parts run at a tiny size: a trial of the program, whose figures say nothing.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Asking for a GPU must not start it in this process.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import argparse
import contextlib
import json
import multiprocessing
import signal
import tempfile
import time
from typing import Any

import torch

import runs  # noqa: F401  makes the checkout importable from any folder
from benchmarks.gpu_parts import PARTS
from foundation.atomic import atomic_write

LEAST = 10.0  #: seconds; with less left a part is not started
#: What is measured, its value at commit 21ae89d on an H100, its target, and where it stands in the results.
TARGETS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("MMTPA bf16, batch 4, 100 classes, ms", "136", "12", ("MMTPA, 100 classes", "captured", "ms")),
    (
        "its wall time over the GPU's busy time",
        "4.4",
        "1.15",
        ("MMTPA, 100 classes", "captured", "ms / busy"),
    ),
    ("MMTPA bf16, batch 4, 1,000 classes, ms", "514", "60", ("MMTPA, 1,000 classes", "captured", "ms")),
    ("its peak memory, GiB (reserved)", "5.0", "5.0", ("MMTPA, 1,000 classes", "captured", "reserved GiB")),
    ("CoOp bf16, batch 32, 100 classes, ms", "91", "6", ("CoOp, 100 classes", "captured", "ms")),
    ("transport's share of MMTPA's step, 100 classes", "0.51", "0.10", ("MMTPA, 100 classes", "share")),
    ("transport's share of MMTPA's step, 1,000 classes", "0.85", "0.30", ("MMTPA, 1,000 classes", "share")),
    ("transport, per million problems, forward, ms", "16.9", "8", ("transport", "forward")),
    (
        "transport, per million problems, forward and backward, ms",
        "133",
        "30",
        ("transport", "forward_backward"),
    ),
    ("waits in a step of MMTPA, 100 classes", "13", "0", ("MMTPA, 100 classes", "waits")),
    (
        "launches of an uncaptured step of MMTPA, 100 classes",
        "3,817",
        "1,500",
        ("MMTPA, 100 classes", "eager", "kernels"),
    ),
    ("MMTPA, 50,000 images x 1,000 classes, s", "-", "60", ("evaluation", "captured", "seconds of all")),
]


def run_part(name: str, device: str, tiny: bool, path: str) -> None:
    """In a process of its own: measure a part, its results so far in ``path``."""
    os.setsid()  # what it starts ends with it
    if tiny:
        torch.set_num_threads(1)

    def report(result: Any) -> None:
        with atomic_write(path, "w") as file:
            json.dump(result, file)

    PARTS[name][1](device, tiny, report)


def measure(name: str, seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """The part's result, how it ended, and its seconds."""
    # A process that has used a GPU cannot be forked; where there is none, that saves the imports.
    context: Any = multiprocessing.get_context("fork" if args.cpu else "spawn")
    device, start = "cpu" if args.cpu else "cuda", time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        process = context.Process(target=run_part, args=(name, device, args.cpu, str(path)))
        process.start()
        try:
            process.join(seconds)
            ended = "done" if process.exitcode == 0 else f"ended by {process.exitcode}"
            if process.is_alive():
                ended = f"stopped after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()
        result = json.loads(path.read_text()) if path.is_file() else None
    return {"ended": ended, "seconds": round(time.monotonic() - start, 1), "result": result}


def found(parts: dict[str, Any], where: tuple[str, ...]) -> Any:
    """A value of the results; None where it is not there."""
    part, *keys = where
    value = parts.get(part, {}).get("result")
    if part == "transport":
        return per_million(value, keys[0])
    if keys == ["share"]:
        return ratio(value, ("eager", "transport", "busy_ms"), ("eager", "busy_ms"))
    if keys == ["waits"]:
        places = deep(value, ("eager", "waits"))
        return sum(places.values()) if isinstance(places, dict) else None
    if keys[-1] == "ms / busy":
        return ratio(value, ("captured", "ms"), ("captured", "busy_ms"))
    return deep(value, keys)


def deep(value: Any, keys: Any) -> Any:
    for key in keys:
        if not isinstance(value, dict):
            return value if isinstance(value, str) else None  # why it is not there
        value = value.get(key)
    return value


def ratio(value: Any, above: tuple[str, ...], below: tuple[str, ...]) -> Any:
    a, b = deep(value, above), deep(value, below)
    return a / b if isinstance(a, float) and isinstance(b, float) and b else a if isinstance(a, str) else None


def per_million(measured: Any, direction: str) -> float | None:
    """Milliseconds of the kernel for the largest number of problems."""
    having = [run for run in measured or [] if "fused" in run.get(direction, {})]
    if not having:
        return None
    largest = max(having, key=lambda run: run["problems"])
    return 1e9 * largest[direction]["fused"]["seconds"] / largest["problems"]


def table(parts: dict[str, Any], trial: bool) -> str:
    """Everything as Markdown."""
    about = parts.get("machine", {}).get("result") or {}
    lines = ["# Measured on a GPU", "", ", ".join(f"{key} {value}" for key, value in about.items()), ""]
    if trial:
        lines += ["A trial at a tiny size on a CPU: these figures say nothing.", ""]
    lines += ["| | at 21ae89d (H100) | target | measured |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {before} | {target} | {shown(found(parts, where))} |"
        for name, before, target, where in TARGETS
    ]
    lines += [
        "",
        "| step | | ms | in a row | GPU busy | kernels | waits | peak GiB | reserved |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, part in parts.items():
        for way in ("eager", "captured", "plain"):
            row = deep(part.get("result"), (way,)) if isinstance(part.get("result"), dict) else None
            if isinstance(row, dict):
                places = row.get("waits")
                cells = [row.get(key) for key in ("ms", "ms in a row", "busy_ms", "kernels")]
                cells += [
                    sum(places.values()) if places is not None else None,
                    row.get("peak GiB"),
                    row.get("reserved GiB"),
                ]
                lines.append(f"| {name} | {way} | {' | '.join(map(shown, cells))} |")
            elif row is not None:
                lines.append(f"| {name} | {way} | {row} | | | | | | |")
    rows = parts.get("methods", {}).get("result") or []
    if rows:
        lines += [
            "",
            "| method | backbone | precision | eager ms | captured ms | |",
            "|---|---|---|---|---|---|",
        ]
    for row in rows:
        said = row.get("failed") or ("" if row["finite"] else "not finite")
        words = [row["method"], row["backbone"], row["precision"]]
        words += [shown(row.get("eager_ms")), shown(row.get("captured_ms")), said]
        lines.append(f"| {' | '.join(words)} |")
    lines += ["", "| part | ended | seconds |", "|---|---|---|"]
    lines += [f"| {name} | {part['ended']} | {part['seconds']} |" for name, part in parts.items()]
    tests = parts.get("tests", {}).get("result")
    if isinstance(tests, str):
        lines += ["", f"tests/gpu: {tests}"]
    elif tests:
        counts = ", ".join(f"{tests[key]} {key}" for key in ("passed", "failed", "error", "skipped"))
        lines += ["", f"tests/gpu: {counts}", *(f"* {name}" for name in tests["failures"])]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of gpu.json and gpu.md")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="after which no part is started, or goes on"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument(
        "--cpu", action="store_true", help="try the program out at a tiny size, without a GPU"
    )
    args = parser.parse_args()
    args.cpu = args.cpu or not torch.cuda.is_available()
    args.output.mkdir(parents=True, exist_ok=True)
    end, parts = time.monotonic() + 60 * args.minutes, {}
    for name in (name for name in PARTS if name in args.parts):
        left = end - time.monotonic()
        if left < LEAST:
            parts[name] = {"ended": "dropped, no time was left", "seconds": 0.0, "result": None}
        else:
            print(f"== {name} ({left:.0f} s left)", flush=True)
            parts[name] = measure(name, min(PARTS[name][0], left), args)
        print(f"== {name}: {parts[name]['ended']}, {parts[name]['seconds']} s", flush=True)
        with atomic_write(str(args.output / "gpu.json"), "w") as file:
            json.dump({"trial": args.cpu, "parts": parts}, file, indent=1)
        with atomic_write(str(args.output / "gpu.md"), "w") as file:
            file.write(table(parts, args.cpu))
    print(f"\n{table(parts, args.cpu)}")


if __name__ == "__main__":
    main()
