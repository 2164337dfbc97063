"""Seconds, peak memory and parts of one training step at true ViT-B/16 size, random weights.

    python benchmarks/step.py --methods MMTPA CoOp --classes 10 50 100 --output step.json

Beside each method stands a plain implementation of the same, which does what published code does (see plain.py), so
that the ratio is measured in one run. The floor is the time that the operations which must be done (see arithmetic.py)
take at the rate of matrix products, measured between the steps. Every measurement is a process of its own, so that its
peak memory is its own. Cells that the output file holds already are not measured again.

Parts are the towers' and the transport's passes forward and backward, measured alone. Where the plain implementation
would take more than ``--plain-texts`` texts at once, its texts go through the tower in groups of that many classes,
and its time is the sum of its parts.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import tools  # noqa: F401  makes the checkout importable from any folder

HERE = Path(__file__).resolve().parent
#: The releases' settings, where they are not the trainers' defaults.
SETTINGS: dict[str, list[Any]] = {
    "CoCoOp": ["TRAINER.COCOOP.N_CTX", 4],
    "VPT": ["TRAINER.VPT.N_CTX_VISION", 8, "TRAINER.VPT.PROMPT_DEPTH_VISION", 12],
}
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
PARTS = ("image", "text", "transport", "optimiser")


@dataclass(frozen=True)
class Cell:
    """What is measured; ``plain`` says which implementation."""

    method: str
    classes: int
    plain: bool
    batch: int
    repeats: int
    backbone: str
    device: str
    precision: str
    plain_texts: int


def measure(cell: Cell) -> dict[str, Any]:
    """One method's step in this process."""
    import torch

    from benchmarks import plain

    model, autocast = build(cell)
    clock = Clock(cell.device)
    rate = clock.matrix_rate(cell.precision)
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

    calls = Calls(model)
    step()
    calls.stop()
    operations = calls.operations()
    texts = sum(n_texts(args[0].layout) for part, _, args, _ in calls.made if part == "text")
    in_groups = cell.plain and texts > cell.plain_texts
    if cell.plain:
        plain.make_plain(model)

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
        for part, value in calls.replay(clock, autocast, cell.plain_texts if in_groups else None).items():
            parts[part] += value / cell.repeats
        parts["optimiser"] += clock.seconds(optimiser.step) / cell.repeats
    rate = max(rate, clock.matrix_rate(cell.precision))
    return {
        **vars(cell),
        "seconds": sum(parts.values()) if in_groups else seconds,
        "sum_of_parts": in_groups,
        "parts": parts,
        "peak_gib": None if in_groups else peak,
        "operations": operations,
        "matrix_rate": rate,
        "floor_seconds": operations / rate,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": clock.machine(),
    }


def build(cell: Cell, names: list[str] | None = None) -> tuple[Any, Callable[[], Any]]:
    """The method's model around a randomly initialised CLIP, and the context that its steps run in.

    The classes are ``names``, else the first ones of Caltech101 or ImageNet.
    """
    import open_clip
    import torch
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    import clip
    import trainers
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY
    from train import extend_cfg

    torch.manual_seed(0)
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_list(SETTINGS.get(cell.method, []))
    cfg.MODEL.TEXT_CHUNK = cell.classes
    if names is None:
        caltech = (HERE / "caltech101.txt").read_text().splitlines()
        names = (caltech if cell.classes <= len(caltech) else IMAGENET_CLASSNAMES)[: cell.classes]
    if len(names) < cell.classes:
        raise ValueError(f"--classes is {cell.classes}, there are {len(names)} class names")
    towers = clip.CLIP(open_clip.create_model(cell.backbone), "random", cell.precision).to(cell.device)
    trainer = TRAINER_REGISTRY.get(cell.method)
    model = trainer.model_class(cfg, towers, names, "a photo of a {}.").to(cell.device)
    dtype = trainers.base._AUTOCAST.get(cell.precision)
    return model, lambda: torch.autocast(cell.device, dtype or torch.bfloat16, enabled=dtype is not None)


def n_texts(layout: Any) -> int:
    return len(layout.roots) * len(layout.branches)


class Calls:
    """The calls of towers and transport that a step makes, to be made again one by one."""

    def __init__(self, model: Any) -> None:
        from trainers import mmtpa, plot

        self.towers = model.clip
        self.made: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []
        self._handles = [
            tower.register_forward_pre_hook(
                lambda module, args, kwargs, part=part: self.made.append((part, module, args, kwargs)),
                with_kwargs=True,
            )
            for part, tower in (("image", self.towers.image), ("text", self.towers.text))
        ]
        self._modules = (mmtpa, plot)
        self._transport = mmtpa.hierarchical_transport
        for module in self._modules:
            vars(module)["hierarchical_transport"] = self._note

    def _note(self, *args: Any, **kwargs: Any) -> Any:
        self.made.append(("transport", None, args, kwargs))
        return self._transport(*args, **kwargs)

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self._modules:
            vars(module)["hierarchical_transport"] = self._transport

    def operations(self) -> float:
        """Those that a step must do."""
        from benchmarks.arithmetic import image_operations, text_operations, transport_operations

        total = 0.0
        for part, module, args, kwargs in self.made:
            if part == "transport":
                total += transport_operations(*([*args, None, None, None][2:5]))
            else:
                total += (image_operations if part == "image" else text_operations)(module, *args, **kwargs)
        return total

    def replay(self, clock: "Clock", autocast: Any, group: int | None) -> dict[str, float]:
        """Seconds of each part, forward and backward; texts in groups of ``group``."""
        seconds = dict.fromkeys(PARTS[:3], 0.0)
        for part, module, args, kwargs in self.made:
            call = module or vars(self._modules[0])["hierarchical_transport"]
            for some in in_groups(args, group) if part == "text" and group else [args]:
                leaves = [leaf(value) for value in some]
                seconds[part] += clock.seconds(partial(forward_backward, autocast, call, leaves, kwargs))
        return seconds


def in_groups(args: tuple[Any, ...], texts: int) -> list[tuple[Any, ...]]:
    prompts, *rest = args
    n_classes = len(prompts.layout.branches)
    size = max(1, texts // len(prompts.layout.roots))
    return [
        (prompts.select(range(start, min(start + size, n_classes))), *rest)
        for start in range(0, n_classes, size)
    ]


def leaf(value: Any) -> Any:
    """The same argument, cut off from what it came from; it asks for a gradient where it did."""
    import torch

    from clip import TextPrompts

    if isinstance(value, TextPrompts):
        return replace(value, root=leaf(value.root), branch=leaf(value.branch))
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value


def forward_backward(autocast: Any, call: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    import torch

    wanted = any(
        getattr(getattr(value, "root", value), "requires_grad", False) for value in [*args, *kwargs.values()]
    )
    with autocast(), torch.set_grad_enabled(wanted):
        out = call(*args, **kwargs)
    outputs = [part for part in (out if isinstance(out, tuple) else (out,)) if part is not None]
    if wanted:
        torch.autograd.backward(outputs, [torch.ones_like(part) for part in outputs])


class Clock:
    """Times on a device that may compute while Python goes on."""

    def __init__(self, device: str) -> None:
        self.device = device

    def seconds(self, call: Callable[[], Any]) -> float:
        self._wait()
        start = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()

    def matrix_rate(self, precision: str) -> float:
        """Operations a second of a large matrix product in the precision of the towers, the best of ten."""
        import torch

        size = 8192 if self.device == "cuda" else 2048
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision, torch.float16)
        a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * size**3 / min(self.seconds(lambda: torch.mm(a, b, out=out)) for _ in range(10))

    def peak_memory(self) -> float:
        """GiB of this process; on a GPU of its tensors."""
        import torch

        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def machine(self) -> str:
        import torch

        if self.device == "cuda":
            return torch.cuda.get_device_name()
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU"
        )
        return f"{model}, {os.cpu_count()} cores"


HEAD = ("method", "classes", "step s", "plain s", "ratio", "floor x", "GiB", "plain GiB", "text ratio")


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
        number(ours["seconds"] / ours["floor_seconds"]),
        number(ours["peak_gib"]),
        number(theirs["peak_gib"] if theirs else None),
        number(theirs["parts"]["text"] / text if theirs and text else None),
        *(f"{ours['parts'][part] / ours['seconds']:.0%}" for part in PARTS),
    ]


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Seconds a step over the number of classes, and what a step with the most classes consists of."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    methods = list(dict.fromkeys(record["method"] for record in results))
    for i, method in enumerate(methods):
        for plain in (False, True):
            rows = [r for r in results if r["method"] == method and r["plain"] == plain]
            rows.sort(key=lambda record: record["classes"])
            style = {"color": f"C{i % 10}", "ls": "--" if plain else "-", "marker": "o", "ms": 3}
            label = None if plain else method
            left.plot([r["classes"] for r in rows], [r["seconds"] for r in rows], label=label, **style)
        most = max(
            (r for r in results if r["method"] == method and not r["plain"]), key=lambda r: r["classes"]
        )
        start = 0.0
        for j, part in enumerate(PARTS):
            share = most["parts"][part] / most["seconds"]
            right.barh(
                f"{method}, {most['classes']}", share, left=start, color=f"C{j}", label=None if i else part
            )
            start += share
    left.set(xscale="log", yscale="log", xlabel="classes", ylabel="seconds a step (dashed: plain)")
    left.legend(fontsize=7)
    right.set(xlabel="share of a step")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 50, 100, 1000])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="an open_clip model")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "amp", "bf16"))
    parser.add_argument("--no-plain", action="store_true", help="measure ours alone")
    parser.add_argument(
        "--plain-texts", type=int, default=400, help="texts that the plain implementation takes at once"
    )
    parser.add_argument("--output", type=Path, help="write the measurements as JSON, and a figure beside it")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # this process measures a single cell
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Cell(**json.loads(args.one)))))
        return

    there = json.loads(args.output.read_text()) if args.output and args.output.is_file() else []
    print(" ".join(f"{name:>11}" for name in (*HEAD, *PARTS)))
    for method in args.methods:
        for n_classes in args.classes:
            cells: list[dict[str, Any]] = []
            for plain in (False,) if args.no_plain else (False, True):
                settings = (
                    args.batch,
                    args.repeats,
                    args.backbone,
                    args.device,
                    args.precision,
                    args.plain_texts,
                )
                cell = vars(Cell(method, n_classes, plain, *settings))
                record = next((r for r in there if cell.items() <= r.items()), None)
                if record is None:
                    command = [sys.executable, __file__, "--one", json.dumps(cell)]
                    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
                    if run.returncode:
                        print(
                            f"{method}, {n_classes} classes{', plain' if plain else ''}: ended by {run.returncode}"
                        )
                        continue
                    record = json.loads(run.stdout.splitlines()[-1])
                    there.append(record)
                    if args.output:
                        args.output.write_text(json.dumps(there, indent=1) + "\n")
                cells.append(record)
            if cells and not cells[0]["plain"]:
                row = table_row(cells[0], cells[1] if len(cells) > 1 else None)
                print(" ".join(f"{value:>11}" for value in row), flush=True)
    print("* sum of the parts, texts in groups; floor x: seconds over the seconds of the needed operations")
    if args.output and there:
        draw(there, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
