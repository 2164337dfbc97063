"""Trainers on the bundled model and the bundled digits, built the way train.py builds them."""

import contextlib
import io
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import train
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import count_num_param, set_random_seed
from runs.make_record import make_record
from runs.record import write_record
from tests.conftest import ROOT
from trainers.base import PromptTrainer
from trainers.prompt_model import PromptModel

CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs/trainers").rglob("*.yaml"))
#: Every method here; what tests of the engine register is not ours.
METHODS = [
    name
    for name in TRAINER_REGISTRY.registered_names()
    if issubclass(trainer := TRAINER_REGISTRY.get(name), PromptTrainer)
    and trainer.__module__.startswith("trainers.")
]
MINI_DEPTH = 4  #: blocks of the bundled model's towers


def learns(name: str) -> bool:
    """Whether the method has parameters; zero-shot ones evaluate only, Tip-Adapter keeps features."""
    return TRAINER_REGISTRY.get(name).learns and name != "TipAdapter"


LEARNERS = [name for name in METHODS if learns(name)]


def make_cfg(method: str, data_root: Path, output: Path, *opts: object, config: str = "") -> Any:
    """Settings of a run on ten (or five base) digits, 2 shots; sizes adapted to the bundled model."""
    if not config:
        mini = f"configs/trainers/{method}/mini.yaml"
        config = mini if mini in CONFIGS else ""
    words = ["--root", data_root, "--output-dir", output, "--seed", 1, "--trainer", method]
    words += ["--dataset-config-file", ROOT / "configs/datasets/handwritten_digits.yaml"]
    words += ["--config-file", ROOT / config] if config else []
    words += ["DATASET.NUM_SHOTS", 2, "DATALOADER.NUM_WORKERS", 0, "TEST.NO_TEST", True, "USE_CUDA", False]
    words += ["VERBOSE", False, "TRAIN.RESUME_INTERVAL", 0.0]
    cfg = train.setup_cfg(train.make_parser().parse_args([str(word) for word in words]))
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE = "mini", (32, 32)
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 5
    cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.MAX_EPOCH = "sgd", 0.002, -1, 3
    cfg.OPTIM.LR_STEPS, cfg.OPTIM.LR_FLOOR, cfg.OPTIM.STEPS_PER_SHOT = False, 0.0, 0
    if not cfg.TRAINER.ATPROMPT.ATT1_TEXT:  # nobody chose words for the digits
        cfg.TRAINER.ATPROMPT.ATT1_TEXT = "shape"
    section = getattr(TRAINER_REGISTRY.get(method), "section", "")
    for key, value in cfg.TRAINER.get(section, {}).items():
        if "DEPTH" in key:
            cfg.TRAINER[section][key] = min(value, MINI_DEPTH)
        if "LAYERS" in key:
            cfg.TRAINER[section][key] = tuple(block for block in value if block <= MINI_DEPTH) or (
                MINI_DEPTH,
            )
        if "DROPOUT" in key:  # what is learned is compared, and what is scored in training
            cfg.TRAINER[section][key] = 0.0
        if key == "PREC":
            cfg.TRAINER[section][key] = "fp32"
    cfg.merge_from_list(list(opts))
    cfg.freeze()
    return cfg


def build(cfg: Any) -> Any:
    """The trainer, as train.py builds it; what it prints is dropped."""
    set_random_seed(cfg.SEED)
    with contextlib.redirect_stdout(io.StringIO()):
        return build_trainer(cfg)


def fit(trainer: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train()
    return trainer


def interrupt(trainer: Any, epoch: int) -> Any:
    """Train, and stop where an epoch (from 0 on) begins, as Ctrl-C does."""
    begin = trainer.before_epoch

    def stop() -> None:
        if trainer.epoch == epoch:
            raise KeyboardInterrupt
        begin()

    trainer.before_epoch = stop
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    return trainer


def finish(trainer: Any, kind: str = "train", **about: Any) -> Path:
    """Train, or whatever the method does instead, and leave the record as train.py does; returns the run's folder."""
    now = datetime.now(timezone.utc)
    Path(trainer.cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    fit(trainer)
    record = make_record(trainer, kind=kind, started=now, built=now, finished=now, **about)
    return write_record(record, trainer.cfg.OUTPUT_DIR).parent


def beside_its_start(
    cfg: Any, towers: Any, classnames: list[str], template: str, **options: object
) -> PromptModel:
    """The model of a trainer's settings with these options of its section, moved a little: a start has zeros."""
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    cfg = cfg.clone()
    cfg.defrost()
    for name, value in options.items():
        cfg.TRAINER[trainer.section][name] = value
    torch.manual_seed(0)
    model = trainer.model_class(cfg, towers, classnames, template)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def load(trainer: Any, directory: Path, epoch: int | None = None) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.load_model(str(directory), epoch=epoch)
    return trainer


def evaluate(trainer: Any, images: Tensor) -> Tensor:
    """Logits as ``test`` computes them."""
    trainer.set_model_mode("eval")
    return trainer.model_inference(images)


def learned(trainer: Any) -> dict[str, Tensor]:
    """Copies of the learnable parameters."""
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def n_learnable(trainer: Any) -> int:
    return count_num_param(trainer.model)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Largest difference at most ``tolerance`` of the largest value."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
