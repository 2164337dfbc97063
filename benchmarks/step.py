"""Seconds and peak memory of one training step at true ViT-B/16 size, random weights.

    python benchmarks/step.py --methods MMTPA CoOp --classes 10 50 100 --output step.json

Every measurement is a process of its own, so that its peak memory is its own. "plain" encodes every class text at 77
positions, as published code does, within the same method; the ratio is measured in one run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import resource
import statistics
import subprocess
import time
from typing import Any

import tools  # noqa: F401  makes the checkout importable from any folder


def measure(method: str, n_classes: int, plain: bool, batch: int, repeats: int) -> dict[str, Any]:
    """One method's step in this process: seconds (median), seconds of the text tower's forward pass, peak memory."""
    import open_clip
    import torch
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    import clip
    import trainers  # noqa: F401
    from benchmarks.plain import PlainTextTower
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY
    from train import extend_cfg

    torch.manual_seed(0)
    cfg = get_cfg_default()
    extend_cfg(cfg)
    settings = SETTINGS.get(method, [])
    trainer = TRAINER_REGISTRY.get(method)
    cfg.merge_from_list([*settings, f"TRAINER.{trainer.section}.PREC", "fp32"])
    towers = clip.CLIP(open_clip.create_model("ViT-B-16-quickgelu"), "random ViT-B/16")
    if plain:
        towers.text.__class__ = PlainTextTower
    names = IMAGENET_CLASSNAMES[:n_classes]
    model = trainer.model_class(cfg, towers, names, "a photo of a {}.")
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(n_classes, (batch,))

    def step() -> None:
        optimiser.zero_grad()
        model.loss(images, labels)[0].backward()
        optimiser.step()

    step()
    seconds = [timed(step) for _ in range(repeats)]
    with torch.no_grad():
        text = statistics.median(timed(model.encode_texts) for _ in range(repeats))
        image = statistics.median(timed(lambda: model.encode_images(images)) for _ in range(repeats))
    return {
        "method": method,
        "classes": n_classes,
        "plain": plain,
        "batch": batch,
        "seconds": statistics.median(seconds),
        "text_forward_seconds": text,
        "image_forward_seconds": image,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


#: The releases' settings, where they are not the trainers' defaults.
SETTINGS: dict[str, list[Any]] = {
    "CoCoOp": ["TRAINER.COCOOP.N_CTX", 4],
    "VPT": ["TRAINER.VPT.N_CTX_VISION", 8, "TRAINER.VPT.PROMPT_DEPTH_VISION", 12],
}


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["MMTPA", "CoOp"])
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 50, 100])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-plain", action="store_true", help="skip the plain text tower")
    parser.add_argument("--output", type=Path, help="write the measurements as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # this process measures a single cell
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(**json.loads(args.one))))
        return

    results = []
    print(
        f"{'method':<12}{'classes':>8}{'step s':>10}{'plain s':>10}{'ratio':>8}{'GiB':>8}{'plain GiB':>11}{'text s':>9}"
    )
    for method in args.methods:
        for n_classes in args.classes:
            cells = {}
            for plain in (False,) if args.no_plain else (False, True):
                cell = {"method": method, "n_classes": n_classes, "plain": plain}
                cell |= {"batch": args.batch, "repeats": args.repeats}
                command = [sys.executable, __file__, "--one", json.dumps(cell)]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                cells[plain] = json.loads(run.stdout.splitlines()[-1])
                results.append(cells[plain])
            ours, theirs = cells[False], cells.get(True)
            row = f"{method:<12}{n_classes:>8}{ours['seconds']:>10.2f}"
            row += (
                f"{theirs['seconds']:>10.2f}{theirs['seconds'] / ours['seconds']:>8.2f}"
                if theirs
                else f"{'-':>10}{'-':>8}"
            )
            row += f"{ours['peak_gib']:>8.2f}" + (f"{theirs['peak_gib']:>11.2f}" if theirs else f"{'-':>11}")
            print(row + f"{ours['text_forward_seconds']:>9.2f}", flush=True)
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
