"""The parts of gpu.py: each measures something in a process of its own and hands over rows as it goes.

A part is a function of the device, of whether sizes are tiny (a trial on a CPU), and of ``report``, which takes what
has been measured so far.
"""

import functools
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch

import clip
from alignment import hierarchical_transport
from benchmarks import calls
from benchmarks.cell import Cell, build
from benchmarks.clock import Clock
from benchmarks.device_profile import in_a_row, kernels, milliseconds, waits
from benchmarks.plain import make_plain
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer
from trainers.captured import WARM_UP, Captured
from trainers.cuda_graphs import CUDARecorder
from trainers.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[1]
NEEDS_GPU = "needs a GPU"
VIT, TINY = "ViT-B-16-quickgelu", "ViT-S-32-alt"
PRECISIONS = ("fp32", "fp16", "amp", "bf16")
Report = Callable[[Any], None]


def machine(device: str, tiny: bool, report: Report) -> None:
    """What everything was measured on."""
    clock = Clock(device)
    about = {"machine": clock.machine(), "torch": torch.__version__, "python": platform.python_version()}
    if device == "cuda":
        import triton

        about |= {"triton": triton.__version__, "cuda": torch.version.cuda or ""}
        about["memory"] = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
        for precision in ("bf16", "fp32"):
            about[f"{precision} matrix rate"] = f"{clock.matrix_rate(precision) / 1e12:.0f} TFLOP/s"
    report(about)


class Step:
    """A training step of a method, eager or captured."""

    def __init__(self, cell: Cell, towers: Any = None) -> None:
        self.model, self.autocast = build(cell, towers=towers)
        self.model.train()
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        size = self.model.clip.image.image_size
        self.images = torch.randn(cell.batch, 3, *size, device=cell.device)
        self.labels = torch.randint(cell.classes, (cell.batch,), device=cell.device)
        self.call = Captured()

    def capture(self) -> str | None:
        """Capture it; returns why that is not possible."""
        recorder = CUDARecorder(torch.device("cuda"))
        self.call = Captured(recorder, self.model, "steps")
        for _ in range(WARM_UP + 2):
            self()
        return None if self.call._captures else "not captured, see the warning above"

    def __call__(self) -> torch.Tensor:
        function = self.model.losses if hasattr(self.model, "losses") else self.model.loss
        self.optimiser.zero_grad()
        with self.autocast():
            losses = [result for result in self.call(function, self.images, self.labels) if not result.dim()]
        for i, loss in enumerate(losses):
            loss.backward(retain_graph=i + 1 < len(losses))
        self.optimiser.step()
        return losses[0].detach()


def step(
    device: str, tiny: bool, report: Report, method: str, classes: int, batch: int, precision: str = "bf16"
) -> None:
    """One step: eager, captured, and the plain implementation."""
    n_classes = 3 if tiny else classes
    size = (2, 1, TINY) if tiny else (batch, 10, VIT)
    cell = Cell(
        method, n_classes, False, size[0], size[1], size[2], device, "fp32" if tiny else precision, 400
    )
    ours = Step(cell)
    noted = calls.Calls(ours.model)
    ours()
    noted.stop()
    transports = [
        ([calls.leaf(value) for value in args], kwargs)
        for part, _, args, kwargs in noted.made
        if part == "transport"
    ]
    noted.made.clear()  # it holds the step's activations
    row: dict[str, Any] = {"method": method, "classes": cell.classes, "batch": cell.batch}
    row["precision"] = cell.precision
    eager: dict[str, Any] = measured(ours, device, cell.repeats)
    report(row | {"eager": eager})
    if device == "cuda":
        eager["waits"] = waits(ours)
        if transports:
            eager["transport"] = kernels(partial(again, transports, ours.autocast))
        report(row | {"eager": eager})
        obstacle = ours.capture()
        captured: Any = obstacle or measured(ours, device, 2 * cell.repeats)
    else:
        captured = NEEDS_GPU
    row |= {"eager": eager, "captured": captured}
    report(row)
    ours.call = Captured()
    make_plain(ours.model)
    texts = cell.classes * len(ours.model.context.layout.roots)
    if texts > cell.plain_texts:  # in groups, whose activations are computed twice
        ours.model.class_texts.chunk = cell.plain_texts * cell.classes // texts
    try:
        plain: Any = measured(ours, device, 1 if tiny else 3, profiled=False)
    except torch.OutOfMemoryError:
        plain = "out of memory"
    report(row | {"plain": plain})


def again(transports: list[Any], autocast: Any) -> None:
    """Transports as in a step, forward and backward."""
    for leaves, kwargs in transports:
        calls.forward_backward(autocast, hierarchical_transport, leaves, kwargs)


def measured(call: Any, device: str, times: int, profiled: bool = True) -> dict[str, Any]:
    """Time, memory and, on a GPU, what it does.

    What is in a graph's pool between two replays is reserved, but not allocated.
    """
    call()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    row: dict[str, Any] = {"ms": milliseconds(call, times, device)}
    row["ms in a row"] = in_a_row(call, times, device) if times > 1 else row["ms"]
    row["peak GiB"] = Clock(device).peak_memory()
    if device == "cuda":
        row["reserved GiB"] = torch.cuda.max_memory_reserved() / 2**30
        if profiled:
            row |= kernels(call)
    return row


def methods(device: str, tiny: bool, report: Report) -> None:
    """Some steps of every method in every precision, at the size of ViT-B/16 and of a small model."""
    names = [
        name
        for name in TRAINER_REGISTRY.registered_names()
        if getattr(TRAINER_REGISTRY.get(name), "precision", None)
        is PromptTrainer.precision  # plugins have none
    ]
    rows: list[dict[str, Any]] = []
    backbones = (TINY,) if tiny else (VIT, TINY)
    for backbone in backbones:
        for precision in ("fp32",) if tiny else PRECISIONS:  # CPUs are slow in others
            towers = clip.CLIP(open_clip.create_model(backbone), "random", precision).to(device)
            for name in ("CoOp", "PLOT") if tiny else names:
                row: dict[str, Any] = {"method": name, "backbone": backbone, "precision": precision}
                try:
                    row |= some_steps(
                        Cell(name, 3 if tiny else 100, False, 2, 3, backbone, device, precision, 0), towers
                    )
                except Exception as error:  # of this one alone
                    row["failed"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                    print(f"{name}, {backbone}, {precision}: {row['failed']}", flush=True)
                rows.append(row)
                report(rows)


def some_steps(cell: Cell, towers: Any) -> dict[str, Any]:
    ours = Step(cell, towers)
    losses = [ours().item() for _ in range(2)]
    row: dict[str, Any] = {"eager_ms": milliseconds(ours, cell.repeats, cell.device)}
    if cell.device == "cuda":
        row["captured_ms"] = ours.capture() or milliseconds(ours, cell.repeats, cell.device)
    else:
        row["captured_ms"] = NEEDS_GPU
    losses.append(ours().item())
    return row | {"losses": losses, "finite": all(torch.isfinite(torch.tensor(losses)).tolist())}


def evaluation(device: str, tiny: bool, report: Report, images: int = 50_000, classes: int = 1000) -> None:
    """MMTPA's texts once, and batches of synthetic images on the device; the whole follows from their number."""
    n_classes, batch, times = (3, 2, 1) if tiny else (classes, 100, 10)
    backbone, precision = (TINY, "fp32") if tiny else (VIT, "bf16")
    cell = Cell("MMTPA", n_classes, False, batch, times, backbone, device, precision, 400)
    model, autocast = build(cell)
    model.eval()
    clock, batches = Clock(device), -(-images // batch)
    x = torch.randn(batch, 3, *model.clip.image.image_size, device=device)
    row: dict[str, Any] = {"classes": n_classes, "batch": batch, "images": images, "measured batches": times}
    with torch.no_grad(), autocast():
        row["texts ms"] = milliseconds(model.encode_texts, 1 if tiny else 3, device)
        ways: dict[str, Any] = {"eager": Captured()}
        if device == "cuda":
            ways["captured"] = Captured(CUDARecorder(torch.device("cuda")), model, "evaluation batches")
        for name, captured in ways.items():
            score = Evaluation(model, n_classes, captured=captured)
            for _ in range(1 if tiny else WARM_UP + 2):
                score(x)
            if name == "captured" and not captured._captures:
                row[name] = "not captured, see the warning above"
                continue
            taken = measured(partial(score, x), device, times)
            taken["seconds of all"] = (row["texts ms"] + batches * taken["ms in a row"]) / 1e3
            row[name] = taken
            report(row)
        if "captured" not in row:
            row["captured"] = NEEDS_GPU
        make_plain(model)
        few = x[:2]  # the loop over images and classes takes a second for each image
        model.class_texts.chunk = max(1, cell.plain_texts // len(model.context.layout.roots))
        texts = clock.seconds(model.encode_texts)
        encoded = model.encode_texts()
        model.logits(few, encoded)
        scores = clock.seconds(lambda: model.logits(few, encoded)) / len(few)
        row["plain"] = {
            "texts ms": 1e3 * texts,  # once a batch
            "ms": 1e3 * (texts + batch * scores),
            "measured images": len(few),
            "seconds of all": batches * (texts + batch * scores),
        }
    report(row)


def transport(device: str, tiny: bool, report: Report) -> None:
    """transport.py, at sizes of training and of evaluation."""
    if tiny:
        sizes = {
            "images": 1,
            "classes": 2,
            "prompts": 1,
            "image-tokens": 9,
            "width": 16,
            "repeat": 1,
            "pot-most": 0,
        }
        words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        runs = [words]
    else:
        common = [
            "--device",
            device,
            "--dtype",
            "bfloat16",
            "--repeat",
            "5",
            "--loop-most",
            "0",
            "--pot-most",
            "0",
        ]
        runs = [[*common, "--evaluation"], [*common, "--classes", "100", "1000"]]
    rows: list[Any] = []
    for words in runs:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "transport.json"
            command = [
                sys.executable,
                str(ROOT / "benchmarks" / "transport.py"),
                *words,
                "--output",
                str(output),
            ]
            subprocess.run(command, check=True)
            rows += json.loads(output.read_text())["runs"]
        report(rows)


def tests(device: str, tiny: bool, report: Report) -> None:
    """tests/gpu: how many passed, and which failed."""
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "--tb=line", "tests/gpu"]
    counts: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "error": 0, "failures": []}
    tail: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            tail = [*tail[-60:], line.rstrip()]
            found = re.match(r"(\S+::\S.*?) (PASSED|FAILED|SKIPPED|ERROR)", line)
            if found:
                counts[found[2].lower()] += 1
                if found[2] in ("FAILED", "ERROR"):
                    counts["failures"].append(found[1])
                    print(line.rstrip(), flush=True)
                report(counts)
    if device != "cuda":
        report(NEEDS_GPU)
    else:
        report(counts | {"code": run.returncode, "tail": tail if counts["failures"] else tail[-1:]})


#: Most important first: name, seconds that it may take, what measures it.
PARTS: dict[str, tuple[float, Callable[[str, bool, Report], None]]] = {
    "machine": (45, machine),
    "MMTPA, 100 classes": (75, functools.partial(step, method="MMTPA", classes=100, batch=4)),
    "CoOp, 100 classes": (60, functools.partial(step, method="CoOp", classes=100, batch=32)),
    "MMTPA, 1,000 classes": (90, functools.partial(step, method="MMTPA", classes=1000, batch=4)),
    "transport": (100, transport),
    "evaluation": (90, evaluation),
    "tests": (180, tests),
    "methods": (150, methods),
}
