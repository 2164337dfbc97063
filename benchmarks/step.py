"""Seconds, peak memory and parts of one training step at true ViT-B/16 size, random weights.

    python benchmarks/step.py --methods MMTPA CoOp --classes 10 50 100 --output step.json

Beside each method stands a plain implementation of the same, which does what published code does (see plain.py), so
that the ratio is measured in one run. The floor is the time that the operations which must be done (see operations.py)
take at the rate of torch's matrix products, and at that of the towers' layers; both are measured between the steps.
Every measurement is a process of its own, so that its peak memory is its own. Cells that the output file holds already
are not measured again.

Parts are the towers' and the transport's passes forward and backward, measured alone. Where the plain implementation
would take more than ``--plain-texts`` texts at once, its texts go through the tower in groups of that many classes,
and its time is the sum of its parts.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import torch

import runs  # noqa: F401  makes the checkout importable from any folder
from benchmarks import calls
from benchmarks.cell import Cell, add_arguments, build, cell_of, measured_alone
from benchmarks.clock import Clock
from benchmarks.plain import make_plain

METHODS = [
    "MMTPA",
    "CoOp",
    "MaPLe",
    "MuDPT",
    "CoCoOp",
    "KgCoOp",
    "ProGrad",
    "PromptSRC",
    "IVLP",
    "VPT",
    "PLOT",
    "APLe",
]
PARTS = (*calls.PARTS, "optimiser")


def measure(cell: Cell) -> dict[str, Any]:
    """One method's step in this process."""
    model, autocast = build(cell)
    clock = Clock(cell.device)
    rate, layer_rate = clock.matrix_rate(cell.precision), clock.layer_rate(cell.precision)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    height, width = model.clip.image.image_size
    images = torch.randn(cell.batch, 3, height, width, device=cell.device)
    labels = torch.randint(cell.classes, (cell.batch,), device=cell.device)

    def gradient() -> None:
        optimiser.zero_grad()
        with autocast():
            losses = (
                model.losses(images, labels)[:2]
                if hasattr(model, "losses")
                else model.loss(images, labels)[:1]
            )
        for i, loss in enumerate(losses):
            loss.backward(retain_graph=i + 1 < len(losses))

    def step() -> None:
        gradient()
        optimiser.step()

    made = calls.Calls(model)
    step()
    made.stop()
    operations = made.operations()
    texts = made.texts()
    in_groups = cell.plain and texts > cell.plain_texts
    if cell.plain:
        make_plain(model)

    seconds, peak = 0.0, 0.0
    if not in_groups:
        if cell.plain:
            step()
        if cell.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = statistics.median(clock.seconds(step) for _ in range(cell.repeats))
        peak = clock.peak_memory()
    parts = dict.fromkeys(PARTS, 0.0)
    for _ in range(cell.repeats):
        for part, value in made.replay(clock, autocast, cell.plain_texts if in_groups else None).items():
            parts[part] += value / cell.repeats
        parts["optimiser"] += clock.seconds(optimiser.step) / cell.repeats
    rate = max(rate, clock.matrix_rate(cell.precision))
    layer_rate = max(layer_rate, clock.layer_rate(cell.precision))
    return {
        **vars(cell),
        "seconds": sum(parts.values()) if in_groups else seconds,
        "sum_of_parts": in_groups,
        "parts": parts,
        "peak_gib": None if in_groups else peak,
        "operations": operations,
        "matrix_rate": rate,
        "layer_rate": layer_rate,
        "floor_seconds": operations / rate,
        "layer_floor_seconds": operations / layer_rate,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": clock.machine(),
    }


HEAD = (
    *("method", "classes", "step s", "plain s", "times faster", "over the floor", "peak GiB", "plain GiB"),
    *("text tower alone, times faster", *PARTS),
)


def table_row(ours: dict[str, Any], theirs: dict[str, Any] | None) -> list[str]:
    """Of one method and number of classes."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    text = ours["parts"]["text"]
    return [
        ours["method"],
        str(ours["classes"]),
        f"{ours['seconds']:.3f}",
        "-" if theirs is None else f"{theirs['seconds']:.3f}" + ("*" if theirs["sum_of_parts"] else ""),
        number(theirs["seconds"] / ours["seconds"] if theirs else None),
        f"{ours['seconds'] / ours['floor_seconds']:.2f} / {ours['seconds'] / ours['layer_floor_seconds']:.2f}",
        number(ours["peak_gib"]),
        number(theirs["peak_gib"] if theirs else None),
        number(theirs["parts"]["text"] / text if theirs and text else None),
        *(f"{ours['parts'][part] / ours['seconds']:.0%}" for part in PARTS),
    ]


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory of a step over the number of classes, and what a step with the most classes consists of."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    methods = list(dict.fromkeys(record["method"] for record in results))
    for i, method in enumerate(methods):
        of_method = sorted((r for r in results if r["method"] == method), key=lambda r: r["classes"])
        for axis, key in zip(axes, ("seconds", "peak_gib")):
            for is_plain in (False, True):
                rows = [r for r in of_method if r["plain"] == is_plain and r[key]]
                style = {"color": f"C{i}", "ls": "--" if is_plain else "-", "marker": "o", "ms": 3}
                label = None if is_plain else method
                axis.plot([r["classes"] for r in rows], [r[key] for r in rows], label=label, **style)
        most = [r for r in of_method if not r["plain"]][-1]
        start = 0.0
        for j, part in enumerate(PARTS):
            share = most["parts"][part] / sum(most["parts"].values())
            label = None if i else part
            axes[2].barh(f"{method}, {most['classes']}", share, left=start, color=f"C{j}", label=label)
            start += share
    ticks = sorted({record["classes"] for record in results})
    for axis, label in zip(axes, ("seconds a step", "GiB of the process")):
        axis.set(xscale="log", xlabel="classes", ylabel=f"{label} (dashed: plain)")
        axis.set_xticks(ticks, map(str, ticks))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log")
    axes[0].legend(fontsize=8)
    axes[1].set(ylim=0)
    axes[2].set(xlabel="share of a step's towers, transport and optimiser")
    axes[2].legend(fontsize=8, ncols=len(PARTS), loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 50, 100, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the measurements as JSON, and a figure beside it")
    parser.add_argument(
        "--show", action="store_true", help="measure nothing, show what the output file holds"
    )
    add_arguments(parser, batch=4)
    args = parser.parse_args(words)
    if args.one:
        print(json.dumps(measure(Cell(**json.loads(args.one)))))
        return

    there = json.loads(args.output.read_text()) if args.output and args.output.is_file() else []
    if not args.show:
        take_measurements(args, there)
    shown = [record for record in there if record["method"] in args.methods]
    print_row(HEAD)
    print_row(["---"] * len(HEAD))
    for method in args.methods:
        for classes in sorted({record["classes"] for record in shown if record["method"] == method}):
            cells = {r["plain"]: r for r in shown if (r["method"], r["classes"]) == (method, classes)}
            if False in cells:
                print_row(table_row(cells[False], cells.get(True)))
    print(
        "* sum of the parts, texts in groups; over the floor: seconds over those of the needed operations, at the "
        "rate of torch.mm / of the towers' layers"
    )
    if args.output and shown:
        plot(shown, args.output.with_suffix(".png"))


def take_measurements(args: argparse.Namespace, there: list[dict[str, Any]]) -> None:
    """Of the cells that are not ``there`` yet; they are added to it and to the output file."""
    for method in args.methods:
        for classes in args.classes:
            for is_plain in (False,) if args.no_plain else (False, True):
                cell = cell_of(args, method, classes, is_plain, args.repeats)
                if any(vars(cell).items() <= record.items() for record in there):
                    continue
                record = measured_alone(__file__, cell)
                if record is not None:
                    there.append(record)
                    way = " plain" if is_plain else ""
                    print(f"{method}, {classes} classes{way}: {record['seconds']:.3f} s", flush=True)
                if args.output:
                    args.output.write_text(json.dumps(there, indent=1) + "\n")


def print_row(cells: Iterable[str]) -> None:
    print("|", " | ".join(f"{cell:>7}" for cell in cells), "|", flush=True)


if __name__ == "__main__":
    main()
