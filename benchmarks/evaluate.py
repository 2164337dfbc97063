"""Images a second in evaluation at true ViT-B/16 size, random weights.

    python benchmarks/evaluate.py --methods CoOp MMTPA --classes 100 1000 --output evaluate.json

Ours encodes the class texts once; the plain implementation (see plain.py) encodes them again for every batch, at 77
positions. Two batches are measured of ours and one of the plain implementation, whose batches are all alike; the time
for ``--images`` follows from these. Reading images is not part of it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch

import runs  # noqa: F401  makes the checkout importable from any folder
from benchmarks.cell import Cell, add_arguments, build, cell_of, measured_alone
from benchmarks.clock import Clock
from benchmarks.plain import make_plain


def measure(cell: Cell) -> dict[str, Any]:
    """One method's evaluation in this process: seconds of its first batch, and of a later one."""
    model, autocast = build(cell)
    model.eval()
    clock = Clock(cell.device)
    if cell.plain:
        make_plain(model)
        prompts = len(model.context.layout.roots) if hasattr(model, "context") else 1
        model.class_texts.chunk = max(1, cell.plain_texts // prompts)
    images = torch.randn(cell.batch, 3, *model.clip.image.image_size, device=cell.device)
    texts: Any = None

    def encode() -> None:
        nonlocal texts
        texts = model.encode_texts()

    def score() -> None:
        model.logits(images, texts)

    with torch.no_grad(), autocast():
        if cell.device == "cuda":  # kernels are chosen and compiled
            encode()
            score()
        of_texts = clock.seconds(encode)
        first = of_texts + clock.seconds(score)
        later = first if cell.plain else clock.seconds(score)
    return {
        **vars(cell),
        "text_seconds": of_texts,
        "first_seconds": first,
        "later_seconds": later,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": clock.machine(),
    }


def seconds(record: dict[str, Any], images: int) -> float:
    """For so many images."""
    batches = -(-images // record["batch"])
    return record["first_seconds"] + (batches - 1) * record["later_seconds"]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["CoOp", "MaPLe", "MMTPA"])
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--output", type=Path, help="write the measurements as JSON")
    add_arguments(parser, batch=100)
    args = parser.parse_args(words)
    if args.one:
        print(json.dumps(measure(Cell(**json.loads(args.one)))))
        return

    results = []
    head = ("method", "classes", "images/s", "plain", "ratio", "text s", "batch s")
    print(" ".join(f"{name:>10}" for name in head))
    for method in args.methods:
        for n_classes in args.classes:
            cells = [
                measured_alone(__file__, cell_of(args, method, n_classes, plain))
                for plain in (True, False)[args.no_plain :]
            ]
            rates = [args.images / seconds(cell, args.images) if cell else None for cell in cells]
            results += [
                cell | {"images": args.images, "seconds": seconds(cell, args.images)}
                for cell in cells
                if cell
            ]
            theirs, rate, ours = None if args.no_plain else rates[0], rates[-1], cells[-1]
            if ours is None or rate is None:
                continue
            row = [method, str(n_classes), f"{rate:.2f}"]
            row += [f"{theirs:.2f}", f"{rate / theirs:.2f}"] if theirs else ["-", "-"]
            row += [f"{ours['text_seconds']:.2f}", f"{ours['later_seconds']:.2f}"]
            print(" ".join(f"{value:>10}" for value in row), flush=True)
            if args.output:
                args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
