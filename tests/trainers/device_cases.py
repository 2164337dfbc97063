"""What every method does on a device: the cases that run on the pretended one, on a real one, and on the CPU.

A device is what ``pretended_device()`` gives, or ``tests.gpu``'s real one, or ``OnCPU``: it has ``step()``, in which
nothing may wait for it.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import clip
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import set_random_seed
from tests.trainers.harness import (
    LEARNERS,
    METHODS,
    assert_close,
    build,
    evaluate,
    fit,
    interrupt,
    learned,
    load,
    make_cfg,
)
from trainers import promptsrc

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
#: Texts encoded at once without a measurement of how many fit, two passes of the text tower in every trainer.
ALL = 10
#: Settings whose depth is 1, or whose visual prompts have another number than the textual ones.
SHALLOW = {
    "IVLP": ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT"),
    "APLE": ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT"),
    "PROMPTSRC": ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT"),
    "MAPLE": ("PROMPT_DEPTH",),
    "MMTPA": ("TEXT_PROMPT_DEPTH", "VISION_PROMPT_DEPTH"),
    "MUDPT": ("DEEP_PROMPT_DEPTH",),
    "VPT": ("PROMPT_DEPTH_VISION",),
}


class OnCPU:
    """Waits for nothing, and so allows everything."""

    use_cuda = False

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        yield


class Run:
    """A method on a device: ``make`` builds its trainer as train.py does."""

    def __init__(self, device: Any, method: str, precision: str, data_root: Path, folder: Path) -> None:
        self.device, self.method, self.precision = device, method, precision
        self.data_root, self.folder = data_root, folder
        self.section = getattr(TRAINER_REGISTRY.get(method), "section", "")
        clip.load("mini", precision)  # draws random numbers, and only once where it is cached

    def cfg(self, *opts: object, use_cuda: bool | None = None, output: str = "run") -> Any:
        use_cuda = self.device.use_cuda if use_cuda is None else use_cuda
        precision = [f"TRAINER.{self.section}.PREC", self.precision] if self.method in LEARNERS else []
        # eager steps: a capture records what these do, and waits while it is made
        always = ["USE_CUDA", use_cuda, *precision, "DATASET.NUM_SHOTS", 1, "TRAIN.CUDA_GRAPH", "'False'"]
        return make_cfg(self.method, self.data_root, self.folder / output, *always, *opts)

    def make(self, *opts: object, **options: Any) -> Any:
        trainer = build(self.cfg(*opts, **options))
        trainer.init_writer = lambda directory: None  # it takes seconds to load
        return trainer

    def steps(self, trainer: Any, epochs: int = 1, may_wait: bool = False) -> None:
        """A step in each epoch, after which it ends: of APLe all stages, of PromptSRC what it averages."""
        set_random_seed(1)  # the same batch in every run
        trainer.set_model_mode("train")
        trainer.num_batches, trainer.batch_idx = 1, 0
        batch = next(iter(trainer.train_loader_x))
        for trainer.epoch in range(epochs):
            with contextlib.nullcontext() if may_wait else self.device.step():
                summary = trainer.forward_backward(trainer._send(batch))
            assert all(torch.isfinite(value).all() for value in summary.values())

    def test(self, trainer: Any) -> float:
        """The accuracy on the validation images, through evaluation as it is at a run's end."""
        with contextlib.redirect_stdout(None):
            return trainer.test(split="val")


def all_classes(run: Run) -> None:
    """Steps and evaluation; a checkpoint as the method's release writes it; again."""
    trainer, there = run.make(), run.make(use_cuda=False, output="cpu")
    assert trainer.device.type == ("cuda" if run.device.use_cuda else "cpu")
    ours, theirs = learned(trainer), learned(there)
    if run.method != "CLAP":  # it starts at the class texts, which are computed there
        assert all(
            torch.equal(value.cpu(), theirs[name]) for name, value in ours.items()
        )  # one seed, one start
    run.test(trainer)
    if run.method not in LEARNERS:
        return
    run.steps(trainer, epochs=3)
    after = {name: value.cpu() for name, value in learned(trainer).items()}
    assert all(torch.isfinite(value).all() for value in after.values())
    if run.precision == "fp32":
        assert any(not torch.equal(value, theirs[name]) for name, value in after.items())
        if not getattr(run.device, "stood_in", ()):
            Run(OnCPU(), run.method, "fp32", run.data_root, run.folder).steps(there, epochs=3)
            for name, value in learned(there).items():
                assert_close(after[name], value, 1e-3)

    folder = run.folder / "release" / trainer.model_name
    folder.mkdir(parents=True)
    torch.save({"state_dict": as_released(trainer, theirs), "epoch": 5}, folder / "model.pth.tar-5")
    load(trainer, folder.parent)
    for name, value in learned(trainer).items():
        assert value.device.type == trainer.device.type
        assert torch.equal(value.cpu(), theirs[name].half().float()), name
    run.steps(trainer)
    run.test(trainer)


def as_released(trainer: Any, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters as the method's release calls them, in half precision, beside some of what it saves of CLIP."""
    state: dict[str, torch.Tensor] = {"logit_scale": torch.zeros(())}
    model = trainer.model
    kept = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for name, value in {**kept, **values}.items():
        if name in model.released_without:
            continue
        theirs, _, row = model.released_names().get(name, name).partition("[")
        rows = list(state.get(theirs, ()))
        state[theirs] = torch.stack([*rows, value.half()]) if row else value.half()
    return state


def class_sample(run: Run) -> None:
    """Steps that tell apart a sample of the classes, evaluation in chunks of classes."""
    trainer = run.make("TRAINER.CLASS_SAMPLE", 6, "TEST.CLASS_CHUNK", 4, "TEST.TOP_K", 2)
    if run.method in LEARNERS:
        run.steps(trainer, epochs=2)
    run.test(trainer)


def class_chunks(run: Run) -> None:
    """Texts encoded in chunks that are computed again in the backward pass; image features from the cache."""
    cache = ["TEST.FEATURE_CACHE", str(run.folder / "features")]
    fixed = ["TRAIN.FEATURE_CACHE", True, "INPUT.TRANSFORMS", ("normalize",)]
    cached = run.make(*cache, *fixed, "MODEL.TEXT_CHUNK", ALL)
    trainer = run.make("MODEL.TEXT_CHUNK", 4, *cache)
    assert run.test(cached) == run.test(trainer)  # computed by the one, read by the other
    if run.method in LEARNERS:
        run.steps(trainer)
        run.steps(cached, may_wait=cached.model.feature_cache is not None)  # it reads the images' values


def shallow_and_resumed(run: Run) -> None:
    """Prompts at the input only; a run that began on the CPU goes on there, and its result is read on the CPU."""
    depths = [part for key in SHALLOW.get(run.section, ()) for part in (f"TRAINER.{run.section}.{key}", 1)]
    options = [*depths, "OPTIM.MAX_EPOCH", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 10, "MODEL.TEXT_CHUNK", ALL]
    interrupted = run.make(*options, use_cuda=False)

    interrupt(interrupted, 1)
    then = learned(interrupted)

    trainer = run.make(*options, "TRAIN.CHECKPOINT_FREQ", 1)
    strict(trainer, run.device)
    began: dict[str, torch.Tensor] = {}
    begin = trainer.before_epoch
    trainer.before_epoch = lambda: (began.update(learned(trainer)), begin())
    fit(trainer)
    assert trainer.start_epoch == 1
    assert all(torch.equal(value.cpu(), then[name]) for name, value in began.items())

    back = load(run.make(*options, use_cuda=False, output="back"), run.folder / "run", epoch=2)
    for name, value in learned(trainer).items():
        assert torch.equal(value.cpu(), learned(back)[name])
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    if not getattr(run.device, "stood_in", ()):
        tolerance = 1e-3 if run.precision == "fp32" else 0.1
        assert_close(evaluate(trainer, images.to(trainer.device)).cpu(), evaluate(back, images), tolerance)


def strict(trainer: Any, device: Any) -> None:
    """Let no step of its training wait."""
    step = trainer.forward_backward

    def forward_backward(batch: Any) -> Any:
        with device.step():
            return step(batch)

    trainer.forward_backward = forward_backward


CASES: list[Callable[[Run], None]] = [all_classes, class_sample, class_chunks, shallow_and_resumed]


def matrix() -> list[Any]:
    """Of method x case x precision a quarter that has every pair."""
    chosen = []
    for number, method in enumerate(METHODS):
        for shift, case in enumerate(CASES):
            precision = PRECISIONS[(number + shift) % len(PRECISIONS)]
            if method in LEARNERS:
                chosen.append(
                    pytest.param(method, case, precision, id=f"{method}-{case.__name__}-{precision}")
                )
            elif case is not shallow_and_resumed:
                chosen.append(pytest.param(method, case, "fp32", id=f"{method}-{case.__name__}"))
    return chosen


def few_templates(patch: pytest.MonkeyPatch) -> None:
    """PromptSRC's frozen texts over two templates instead of sixty."""
    patch.setattr(promptsrc, "PROMPTSRC", promptsrc.PROMPTSRC[:2])


def interrupted_there(run: Run) -> None:
    """A run that is killed on the device continues there and on the CPU, each to about the uninterrupted result."""
    options = ["OPTIM.MAX_EPOCH", 2]
    straight = fit(run.make(*options, output="straight"))
    stopped = run.make(*options)

    interrupt(stopped, 1)
    for use_cuda in (run.device.use_cuda, False):
        output = f"on {'cuda' if use_cuda else 'the CPU'}"
        shutil.copytree(run.folder / "run", run.folder / output, dirs_exist_ok=True)
        resumed = fit(run.make(*options, use_cuda=use_cuda, output=output))
        assert resumed.start_epoch == 1
        for name, value in learned(resumed).items():
            assert_close(value.cpu(), learned(straight)[name].cpu(), 1e-2)


def accuracy_after_training(run: Run) -> float:
    """Three epochs of the bundled digits, eight of each; the accuracy on the test images."""
    options = ["DATASET.NUM_SHOTS", 8, "DATALOADER.TRAIN_X.BATCH_SIZE", 16, "OPTIM.LR", 0.01]
    trainer = fit(run.make(*options))
    with contextlib.redirect_stdout(None):
        return trainer.test(split="test")
