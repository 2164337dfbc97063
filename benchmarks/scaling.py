"""Seconds and memory of a training step in several processes.

    python benchmarks/scaling.py --method CoOp --classes 1000 --processes 1 2 3 4 --output scaling.json

ViT-B/16 size, random weights, one thread for each process, gloo. The plain implementation shares the images of a batch
among the processes and nothing else, as DistributedDataParallel around a published method does: each process encodes
all classes. Here they share the class texts as well. Memory is what a step takes beyond the built model, the most that
one of the processes takes. What the output file holds already is not measured again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import runs  # noqa: F401  makes the checkout importable from any folder
from benchmarks.cell import Cell, build
from benchmarks.clock import Clock


def take_part(rank: int, count: int, plain: bool, args: argparse.Namespace, folder: str) -> None:
    """One of ``count`` processes: some steps on its share of the batch; writes what it measured."""
    from trainers import data_parallel

    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    cell = Cell(args.method, args.classes, False, args.batch, args.repeats, args.backbone, "cpu", "fp32", 0)
    model, _ = build(cell)
    labels = torch.randint(args.classes, (args.batch,), generator=torch.Generator().manual_seed(0))
    clock = Clock("cpu")
    if plain:
        vars(model.class_texts)["encode"] = model.class_texts._encode
    own = data_parallel.share(args.batch)
    height, width = model.clip.image.image_size
    images = torch.randn(args.batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    built = clock.peak_memory()

    def step() -> float:
        optimiser.zero_grad()
        part = data_parallel.share_of_batch(len(own), images.device)
        loss = model.loss(images[own.start : own.stop], labels[own.start : own.stop])[0] * part
        loss.backward()
        data_parallel.add_up_gradients(model.parameters())
        optimiser.step()
        return data_parallel.total(loss).item()

    loss = step()
    seconds = [clock.seconds(step) for _ in range(args.repeats)]
    record = {"seconds": statistics.median(seconds), "gib": clock.peak_memory() - built, "loss": loss}
    Path(folder, f"{rank}.json").write_text(json.dumps(record))
    if count > 1:
        dist.destroy_process_group()


def measured(count: int, plain: bool, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What ``count`` new processes measure."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(take_part, (count, plain, args, folder), nprocs=count)
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(count)]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory over the number of processes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, key, label in zip(axes, ("seconds", "gib"), ("seconds a step", "GiB a process")):
        for way, style in (("shared", "-"), ("plain", "--")):
            of_way = [row for row in rows if row["way"] == way or row["processes"] == 1]
            axis.plot([row["processes"] for row in of_way], [row[key] for row in of_way], style, marker="o")
        axis.set(xlabel="processes", ylabel=label, ylim=0, xticks=sorted({row["processes"] for row in rows}))
    axes[0].legend(["class texts shared", "every process encodes all"], fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", default="CoOp")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--batch", type=int, default=4, help="images of all processes together")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="an open_clip model")
    parser.add_argument("--output", type=Path, help="write the measurements as JSON, and a figure beside it")
    args = parser.parse_args(words)
    about = {"machine": Clock("cpu").machine(), "torch": torch.__version__, "method": args.method}
    about |= {"backbone": args.backbone, "batch": args.batch, "classes": args.classes}
    there = json.loads(args.output.read_text()) if args.output and args.output.is_file() else {}
    rows = there["rows"] if about.items() <= there.items() else []
    print(f"{'processes':>9} {'texts':>7} {'step s':>8} {'faster':>7} {'GiB':>6}")
    for count in args.processes:
        for way in ("shared", "plain") if count > 1 else ("shared",):
            row = next((r for r in rows if (r["processes"], r["way"]) == (count, way)), None)
            if row is None:
                parts = measured(count, way == "plain", args)
                most = {key: max(part[key] for part in parts) for key in ("seconds", "gib", "loss")}
                rows.append(row := {"processes": count, "way": way, **most})
            faster = rows[0]["seconds"] / row["seconds"]
            print(f"{count:>9} {way:>7} {row['seconds']:>8.3f} {faster:>7.2f} {row['gib']:>6.2f}", flush=True)
    if args.output:
        args.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
        plot(rows, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
