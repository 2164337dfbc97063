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
import subprocess
from typing import Any

import tools  # noqa: F401  makes the checkout importable from any folder
from benchmarks.step import Cell, Clock, build

TEXTS_AT_ONCE = 400  #: of the plain implementation; bounds its memory


def measure(cell: Cell) -> dict[str, Any]:
    """One method's evaluation in this process: seconds of its first batch, and of a later one."""
    import torch

    from benchmarks import plain

    model, autocast = build(cell)
    model.eval()
    clock = Clock(cell.device)
    if cell.plain:
        plain.make_plain(model)
        prompts = len(model.context.layout.roots) if hasattr(model, "context") else 1
        model.class_texts.chunk = max(1, TEXTS_AT_ONCE // prompts)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["CoOp", "MaPLe", "MMTPA"])
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="an open_clip model")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "amp", "bf16"))
    parser.add_argument("--no-plain", action="store_true", help="measure ours alone")
    parser.add_argument("--output", type=Path, help="write the measurements as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # this process measures a single cell
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Cell(**json.loads(args.one)))))
        return

    results = []
    head = ("method", "classes", "images/s", "plain", "ratio", "text s", "batch s")
    print(" ".join(f"{name:>10}" for name in head))
    for method in args.methods:
        for n_classes in args.classes:
            rates, record = [], {}
            for plain in (True, False)[args.no_plain :]:
                settings = (args.batch, 1, args.backbone, args.device, args.precision, TEXTS_AT_ONCE)
                command = [
                    sys.executable,
                    __file__,
                    "--one",
                    json.dumps(vars(Cell(method, n_classes, plain, *settings))),
                ]
                run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                record = json.loads(run.stdout.splitlines()[-1])
                results.append(record | {"images": args.images, "seconds": seconds(record, args.images)})
                rates.append(args.images / results[-1]["seconds"])
            row = [method, str(n_classes), f"{rates[-1]:.2f}"]
            row += [f"{rates[0]:.2f}", f"{rates[1] / rates[0]:.2f}"] if len(rates) > 1 else ["-", "-"]
            row += [f"{record['text_seconds']:.2f}", f"{record['later_seconds']:.2f}"]
            print(" ".join(f"{value:>10}" for value in row), flush=True)
            if args.output:
                args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
