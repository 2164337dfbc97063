"""Images a second that the input pipeline delivers, beside a plain loop that opens, transforms and stacks them.

    python benchmarks/data.py --eurosat DATA/eurosat/2750 --output data.json

CoOp's training transforms (random resized crop to 224 x 224, bicubic; flip; normalisation) on EuroSAT's images of
64 x 64 pixels and on JPEGs of 500 x 375, which are made here. The plain loop and all numbers of workers take turns, and
what counts is each one's ratio to the plain loop of the same turn: on a machine with other work, the rates alone say
little. One thread per process.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image

import datasets.config
from dassl.config import get_cfg_default
from dassl.data import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform

BATCH = 32


def config(workers: int = 0, cache_mb: int = 0) -> Any:
    cfg = get_cfg_default()
    datasets.config.extend_cfg(cfg)
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.CACHE_MB = cache_mb
    return cfg


def plain_loop(
    paths: Sequence[str], transform: Callable[[Image.Image], torch.Tensor]
) -> Iterable[torch.Tensor]:
    """The batches as one would write them without an engine."""
    order = torch.randperm(len(paths)).tolist()
    for start in range(0, len(order) - BATCH + 1, BATCH):
        images = []
        for i in order[start : start + BATCH]:
            with Image.open(paths[i]) as image:
                images.append(transform(image.convert("RGB")))
        yield torch.stack(images)


def rate(batches: Iterable[Any]) -> float:
    """Images a second."""
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch["img"] if isinstance(batch, dict) else batch)
    return count / (time.perf_counter() - start)


def measure(paths: Sequence[str], workers: Sequence[int], turns: int) -> list[dict[str, Any]]:
    """The median rate, and the median ratio to the plain loop, of each way to read the images."""
    data = [Datum(path) for path in paths]
    transform = build_transform(config())
    assert transform
    ways: dict[str, Callable[[], Iterable[Any]]] = {"plain loop": lambda: plain_loop(paths, transform)}
    for count, cache_mb in [(count, 0) for count in workers] + [(0, 10_000)]:
        loader = build_data_loader(
            config(count, cache_mb), "RandomSampler", data, batch_size=BATCH, tfm=transform
        )
        name = f"{count} workers" if count != 1 else "1 worker"
        # The default binds this turn's loader.
        ways[f"{name}, cached" if cache_mb else name] = lambda loader=loader: loader  # type: ignore[misc]
    for way in ways.values():
        rate(way())  # starts workers, fills the cache and the disk's
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            rates[name].append(rate(way()))
    plain = rates["plain loop"]
    return [
        {
            "way": name,
            "images_per_second": round(statistics.median(values), 1),
            "ratio": round(statistics.median(a / b for a, b in zip(values, plain)), 3),
            "ratios": [round(a / b, 3) for a, b in zip(values, plain)],
        }
        for name, values in rates.items()
    ]


def make_photographs(folder: Path, count: int) -> list[str]:
    """JPEGs of 500 x 375 pixels with as much detail as photographs have (some 60 kB at quality 90)."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        picture = np.zeros((375, 500, 3))
        for cells in (4, 12, 36, 108, 324):  # the less, the finer
            noise = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8))
            picture += (
                (np.asarray(noise.resize((500, 375), Image.Resampling.BICUBIC)) - 128.0) * 1.5 / cells**0.4
            )
        path = folder / f"{number}.jpg"
        Image.fromarray(np.clip(picture + 128, 0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"{'images':<12}  {'way':<18}  {'images/s':>9}  {'of plain':>8}"]
    for images, rows in results.items():
        lines += [
            f"{images:<12}  {row['way']:<18}  {row['images_per_second']:>9,.0f}  {row['ratio']:>8.2f}"
            for row in rows
        ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--eurosat", type=Path, help="EuroSAT's folder 2750; without it only JPEGs are read")
    parser.add_argument("--images", type=int, default=1280, help="of each kind")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    before = os.getloadavg()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.eurosat:
            found = sorted(args.eurosat.rglob("*.jpg"))
            if len(found) < args.images:
                parser.error(f"{args.eurosat} has {len(found)} images, not {args.images}")
            chosen = np.random.default_rng(0).choice(len(found), args.images, replace=False)
            results["EuroSAT"] = measure([str(found[i]) for i in chosen], args.workers, args.turns)
        results["500 x 375"] = measure(make_photographs(Path(folder), args.images), args.workers, args.turns)
    record = {
        "machine": {"cores": os.cpu_count(), "load_before": before, "load_after": os.getloadavg()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
        },
        "images": args.images,
        "batch_size": BATCH,
        "turns": args.turns,
        "results": results,
    }
    print(f"\n{table(results)}\nload average {before[0]:.1f} before, {os.getloadavg()[0]:.1f} after")
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
