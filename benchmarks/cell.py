"""One cell of a benchmark's table: a method, a number of classes, ours or the plain implementation."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

import clip
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from runs.schema import extend_cfg
from runs.settings import merge_pairs
from trainers.base import AUTOCAST

HERE = Path(__file__).resolve().parent
WORDS = ["TRAINER.ATPROMPT.ATT1_TEXT", "color", "TRAINER.ATPROMPT.ATT2_TEXT", "shape"]
#: The releases' settings, where they are not the trainers' defaults.
SETTINGS: dict[str, list[Any]] = {
    "ATPromptCoOp": ["TRAINER.COOP.N_CTX", 2, *WORDS],
    "ATPromptMaPLe": WORDS,
    "CoCoOp": ["TRAINER.COCOOP.N_CTX", 4],
    "VPT": ["TRAINER.VPT.N_CTX_VISION", 8, "TRAINER.VPT.PROMPT_DEPTH_VISION", 12],
}


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        plain: the plain implementation (see plain.py) instead of ours.
        plain_texts: class texts that it takes at once.
    """

    method: str
    classes: int
    plain: bool
    batch: int
    repeats: int
    backbone: str
    device: str
    precision: str
    plain_texts: int


def add_arguments(parser: argparse.ArgumentParser, batch: int) -> None:
    """Those that say what the cells are."""
    parser.add_argument("--batch", type=int, default=batch, help="images of a batch")
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="an open_clip model")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "amp", "bf16"))
    parser.add_argument("--no-plain", action="store_true", help="measure ours alone")
    parser.add_argument(
        "--plain-texts", type=int, default=400, help="texts that the plain implementation takes at once"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # this process measures a single cell


def cell_of(args: argparse.Namespace, method: str, classes: int, plain: bool, repeats: int = 1) -> Cell:
    settings = args.batch, repeats, args.backbone, args.device, args.precision, args.plain_texts
    return Cell(method, classes, plain, *settings)


def measured_alone(program: str, cell: Cell) -> dict[str, Any] | None:
    """What ``program --one`` measures in a process of its own; None, and a line that says so, where that failed."""
    command = [sys.executable, program, "--one", json.dumps(vars(cell))]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        way = ", plain" if cell.plain else ""
        print(f"{cell.method}, {cell.classes} classes{way}: ended by {run.returncode}")
        return None
    return json.loads(run.stdout.splitlines()[-1])


def build(
    cell: Cell,
    names: list[str] | None = None,
    towers: clip.CLIP | None = None,
    settings: Sequence[str] = (),
) -> tuple[Any, Callable[[], Any]]:
    """The method's model around a CLIP, and the context that its steps run in.

    The classes are ``names``, else the first ones of Caltech101 or ImageNet; the CLIP is ``towers``, else a randomly
    initialised one. ``settings`` are KEY VALUE pairs of the method's.
    """
    torch.manual_seed(0)
    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_pairs(cfg, [*SETTINGS.get(cell.method, []), *settings])
    cfg.MODEL.TEXT_CHUNK = cell.classes
    if names is None:
        caltech = (HERE / "caltech101.txt").read_text().splitlines()
        names = (caltech if cell.classes <= len(caltech) else IMAGENET_CLASSNAMES)[: cell.classes]
    if len(names) < cell.classes:
        raise ValueError(f"--classes is {cell.classes}, there are {len(names)} class names")
    if towers is None:
        towers = clip.CLIP(open_clip.create_model(cell.backbone), "random", cell.precision).to(cell.device)
    trainer = TRAINER_REGISTRY.get(cell.method)
    model = trainer.model_class(cfg, towers, names, "a photo of a {}.").to(cell.device)
    dtype = AUTOCAST.get(cell.precision)
    return model, lambda: torch.autocast(cell.device, dtype or torch.bfloat16, enabled=dtype is not None)
