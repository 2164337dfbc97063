"""Memory and seconds of a large vocabulary: evaluated whole in chunks of classes, trained on samples of it.

    python benchmarks/vocabulary.py --method MMTPA --classes 21000 --chunk 1000 --sample 1000 --output vocabulary.json

ViT-B/16 size, random weights, fp32, on the CPU. The names are those of ImageNet's classes behind a number. Memory is
the most that the process has had: with the model built, after the evaluation, and after the steps.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import statistics
from functools import partial
from typing import Any

import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

import runs  # noqa: F401  makes the checkout importable from any folder
from benchmarks.cell import Cell, build
from benchmarks.clock import Clock
from trainers.class_sample import draw_classes
from trainers.evaluation import Evaluation


def evaluate(model: Any, images: torch.Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the first batch, which encodes the texts, and of a later one."""
    score, clock = Evaluation(model.eval(), args.classes, args.chunk, args.top), Clock("cpu")
    with torch.no_grad():
        first = clock.seconds(lambda: score(images))
        later = clock.seconds(lambda: score(images))
        best: Any = score(images)
    return {
        "first_batch_seconds": first,
        "later_batch_seconds": later,
        "kept": list(best.classes.shape) if args.chunk else None,
    }


def train(model: Any, images: torch.Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step on a sample."""
    labels = torch.randint(args.classes, (args.batch,))
    model.train().kept_image_changes = None

    def step(i: int) -> None:
        classes = draw_classes(labels, args.classes, args.sample, (1, i))
        model.class_texts.classes = classes
        model.loss(images, torch.searchsorted(classes, labels))[0].backward()

    clock = Clock("cpu")
    return {"step_seconds": statistics.median(clock.seconds(partial(step, i)) for i in range(args.steps))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", default="CoOp")
    parser.add_argument("--classes", type=int, default=21000)
    parser.add_argument("--chunk", type=int, default=1000, help="classes scored at once (TEST.CLASS_CHUNK)")
    parser.add_argument("--top", type=int, default=5, help="best classes that are kept (TEST.TOP_K)")
    parser.add_argument("--sample", type=int, default=1000, help="classes of a step (TRAINER.CLASS_SAMPLE)")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for class texts (MODEL.TEXT_MEMORY)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="training steps; 0: evaluate only")
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="an open_clip model")
    parser.add_argument("--output", type=Path, help="write the measurements as JSON")
    args = parser.parse_args()

    numbers = range(args.classes // len(IMAGENET_CLASSNAMES) + 1)
    names = [f"{i} {name}" if i else name for i in numbers for name in IMAGENET_CLASSNAMES][: args.classes]
    cell = Cell(args.method, args.classes, False, args.batch, 1, args.backbone, "cpu", "fp32", 0)
    model, _ = build(cell, names)
    model.class_texts.chunk, model.class_texts.memory = 0, args.memory
    images = torch.randn(args.batch, 3, *model.clip.image.image_size)
    clock = Clock("cpu")

    record = {**vars(args), "output": None, "built_gib": clock.peak_memory(), **evaluate(model, images, args)}
    record["evaluation_gib"] = clock.peak_memory()
    first, later, gib = (
        record[key] for key in ("first_batch_seconds", "later_batch_seconds", "evaluation_gib")
    )
    print(
        f"{args.method}, {args.classes:,} classes: first batch {first:.1f} s, later ones {later:.2f} s,",
        end=" ",
    )
    print(f"{gib:.2f} GiB", flush=True)
    if args.steps:
        record |= train(model, images, args)
        record["gib"] = clock.peak_memory()
        print(
            f"step of {args.sample:,} classes {record['step_seconds']:.2f} s, {record['gib']:.2f} GiB in all"
        )
    record |= {"machine": clock.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
