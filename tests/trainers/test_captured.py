"""Captured steps give what eager ones give, bit for bit on a CPU, and give way where they cannot.

A stand-in records here; what only a GPU can show is in tests/gpu/test_captured.py.
"""

import functools
import gc
import random
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

import clip
from clip.arrangement import arrange
from clip.text_prompts import selection
from dassl.utils import set_random_seed
from tests import copies
from tests.trainers.harness import LEARNERS, METHODS, build, evaluate, fit, interrupt, learned, make_cfg
from tests.trainers.standin import Again, capture_on_cpu
from trainers import captured
from trainers.captured import MOST, WARM_UP
from trainers.coop import CoOp, CoOpModel


@pytest.fixture
def recorder(monkeypatch):
    """Captures of the trainers that are built from now on; ``recorder.on = False``: none."""
    recorder = capture_on_cpu(monkeypatch, Again())
    monkeypatch.setattr(captured, "recorder", lambda trainer: recorder if recorder.on else None)
    recorder.on = True
    return recorder


@pytest.fixture
def both(recorder, data_root, tmp_path):
    """What ``call`` gives for a trainer without captures, and for one with them."""

    def both(method, call, *opts, kind=None):
        results = []
        for recorder.on in (False, True):
            cfg = make_cfg(method, data_root, tmp_path / f"{recorder.on}", *opts)
            trainer = kind(cfg) if kind else build(cfg)
            for parameter in trainer.model.parameters():
                torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
            set_random_seed(1)  # the first one may have loaded the towers
            results.append(call(trainer))
        return results

    return both


def steps(trainer, count=WARM_UP + 3):
    """Summaries and gradients of some steps, looked at when all are done, and the parameters then."""
    trainer.set_model_mode("train")
    trainer.epoch, trainer.num_batches = 0, 1000
    batches = list(trainer.train_loader_x)
    taken = []
    for trainer.batch_idx in range(count):
        summary = trainer.forward_backward(batches[trainer.batch_idx % len(batches)])
        taken.append([*summary.values(), *(p.grad for p in trainer.model.parameters())])
    return [*(value for values in taken for value in values), *learned(trainer).values()]


def assert_same(results):
    plain, captured = results
    assert len(plain) == len(captured)
    for ours, theirs in zip(plain, captured):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


@pytest.fixture
def soon(monkeypatch):
    """Captures after one eager call; with settings for fewer classes."""
    monkeypatch.setattr(captured, "WARM_UP", 1)
    return ["DATASET.SUBSAMPLE_CLASSES", "base"]


@pytest.mark.parametrize("method", LEARNERS)
def test_captured_steps_are_the_eager_ones(method, both, recorder, soon, capsys):
    assert_same(both(method, lambda trainer: steps(trainer, 4), *soon))
    assert recorder.replays >= 6  # three captured steps, forward and backward
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "precision"),
    [("MMTPA", "bf16"), ("ProGrad", "amp"), ("ProGrad", "fp16"), ("KgCoOp", "amp"), ("KgCoOp", "bf16")],
)
def test_in_every_precision(method, precision, both, recorder, capsys):
    section = {"MMTPA": "MMTPA"}.get(method, "COOP")
    # loss scaling first looks for its scale, and no step is captured whose gradients are not finite
    count = 12 if precision == "amp" else WARM_UP + 2
    assert_same(both(method, lambda trainer: steps(trainer, count), f"TRAINER.{section}.PREC", precision))
    assert recorder.replays >= 4
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "opts"),
    [
        ("MMTPA", ["MODEL.TEXT_CHUNK", 3]),
        ("CoCoOp", []),
        ("CoOp", ["TRAINER.COOP.CSC", True, "TRAINER.COOP.CTX_INIT", ""]),
    ],
)
def test_with_activations_computed_twice(method, opts, both, recorder, monkeypatch):
    monkeypatch.setattr("trainers.cocoop.CHUNK", 64)
    assert_same(both(method, steps, *opts))
    assert recorder.replays


@pytest.mark.parametrize("method", ["APLe", "PromptSRC"])
def test_whole_runs_with_smaller_batches(method, both, recorder, soon, capsys):
    """Epochs, stages, averages, schedule; the last batch of an epoch is smaller and has a capture of its own."""

    def run(trainer):
        trainer.train_loader_x = [
            {"img": batch["img"][: 5 - i % 2], "label": batch["label"][: 5 - i % 2]}
            for i, batch in enumerate(trainer.train_loader_x)
        ]
        return list(learned(fit(trainer)).values())

    opts = ["OPTIM.MAX_EPOCH", 6, "OPTIM.WARMUP_EPOCH", 1, "OPTIM.LR_SCHEDULER", "cosine"]
    assert_same(both(method, run, *opts))
    kinds = 6 if method == "APLe" else 2  # its three stages, in two sizes
    assert recorder.recorded == 2 * kinds
    assert "Warning" not in capsys.readouterr().out


def test_a_resumed_run_is_the_uncaptured_one(recorder, data_root, tmp_path):
    def cfg(folder):
        return make_cfg("MaPLe", data_root, tmp_path / folder, "OPTIM.MAX_EPOCH", 4)

    recorder.on = False
    straight = fit(build(cfg("straight")))
    recorder.on = True
    stopped = build(cfg("resumed"))

    interrupt(stopped, 2)
    set_random_seed(5)  # a process of its own
    resumed = fit(build(cfg("resumed")))
    assert resumed.start_epoch == 2
    assert recorder.replays
    assert_same([learned(straight).values(), learned(resumed).values()])


class NoisyModel(CoOpModel):
    def loss(self, images, labels):
        return super().loss(images + 0.1 * torch.randn_like(images), labels)


class Noisy(CoOp):
    model_class = NoisyModel


def test_random_numbers_are_drawn_as_without(both, recorder, capsys):
    def call(trainer):
        return [*steps(trainer), torch.rand(3)]  # what follows draws the same, too

    assert_same(both("CoOp", call, kind=Noisy))
    assert recorder.replays
    assert warnings_in(capsys) == []


class HostRandom(CoOp):
    """A number that Python draws would be the same in every replay."""

    class model_class(CoOpModel):
        def loss(self, images, labels):
            return super().loss(images * random.uniform(0.9, 1.1), labels)


def test_random_numbers_of_the_host_are_not_captured(both, recorder, capsys):
    assert_same(both("CoOp", steps, kind=HostRandom))
    assert not recorder.replays
    assert warnings_in(capsys) == [
        "Warning: TRAIN.CUDA_GRAPH: training steps run without captures: random numbers are drawn on the CPU"
    ]


def warnings_in(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]


class Plugin(CoOp):
    """Overrides every hook around the gradient, and changes its loss by a number that it keeps in the model."""

    class model_class(CoOpModel):
        sharpness = 1.0

        def loss(self, images, labels):
            logits = self.logits(images, self.encode_texts()) * self.sharpness
            return F.cross_entropy(logits, labels, label_smoothing=0.1), logits

    def forward_backward(self, batch):
        self.model.sharpness = 1.0 + (self.batch_idx // 6) / 2
        return super().forward_backward(batch)

    def of_batch(self, logits, labels, **losses):
        part, summary = super().of_batch(logits, labels, **losses)
        return part, summary | {"loss_again": 2 * losses["loss"].detach(), "highest": logits.detach().max()}

    def model_backward(self, loss):
        super().model_backward(loss * (1 + self.batch_idx))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)

    def model_zero_grad(self, names=None):
        if self.batch_idx % 2 == 0:  # gradients of two steps add up
            super().model_zero_grad(names)

    def model_update(self, names=None):
        if self.batch_idx % 2:
            super().model_update(names)


def test_hooks_keep_their_meaning(both, recorder, capsys):
    assert_same(both("CoOp", lambda trainer: steps(trainer, 18), kind=Plugin))
    assert recorder.recorded == 2 * 3  # one of each sharpness
    assert warnings_in(capsys) == []


class OfLogits(CoOp):
    """Takes a gradient of the logits, too."""

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        loss, logits = self.captured(self.model.loss, images, labels)
        self.model_backward_and_update(loss + logits.square().mean())
        return {"loss": loss}


def test_a_gradient_of_more_than_the_loss_is_found_in_time(both, recorder, capsys):
    assert_same(both("CoOp", steps, kind=OfLogits))
    assert not recorder.recorded
    assert warnings_in(capsys) == [
        "Warning: TRAIN.CUDA_GRAPH: training steps run without captures: a gradient is asked of more than the loss"
    ]


def test_hooks_of_modules_and_parameters_are_called(both, recorder):
    def call(trainer):
        calls, taken = [], []
        [parameter] = trainer.model.parameters()
        for register, hook in (
            (trainer.model.clip.image.register_forward_hook, lambda *_: calls.append(1)),
            (parameter.register_hook, lambda gradient: calls.append(2) or 2 * gradient),
            (parameter.register_post_accumulate_grad_hook, lambda _: calls.append(3)),
        ):
            handle = register(hook)
            taken += steps(trainer)
            handle.remove()
        return [*taken, torch.tensor(calls)]

    assert_same(both("CoOp", call))
    assert recorder.replays


def test_parameters_outside_of_the_model_get_their_gradients(both, recorder):
    def call(trainer):
        gain = torch.nn.Parameter(torch.ones(()))
        loss = trainer.model.loss
        trainer.model.loss = lambda images, labels: loss(images * gain, labels)
        return [*steps(trainer), gain.grad]

    assert_same(both("MaPLe", call))
    assert recorder.replays


def test_other_shapes_and_settings_have_captures_of_their_own(make, recorder):
    trainer = make("CoOp")
    trainer.set_model_mode("train")
    image, label = torch.randn(9, 3, 32, 32), torch.arange(9)

    def call(size):
        for _ in range(WARM_UP + 2):
            loss, logits = trainer.captured(trainer.model.loss, image[:size], label[:size])
        assert logits.shape == (size, 10)
        return loss

    assert torch.equal(call(3), call(3))
    for size in range(1, 10):
        call(size)
    assert recorder.recorded == 2 * MOST  # the ninth runs eagerly
    trainer.captured.forget()
    trainer.model.eval()
    call(3)
    trainer.model.train()
    call(3)
    with torch.no_grad():
        assert not call(3).requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call(3)
    trainer.model.context.ctx.requires_grad_(False)
    call(3)
    assert recorder.recorded == 2 * MOST + 2 + 2 + 1 + 2 + 1


def test_what_a_capture_reads_outlives_the_lookup_tables(make, recorder):
    """A graph reads the memory of indices that others may drive out of the tables."""
    trainer = make("CoOp", "MODEL.TEXT_CHUNK", 4)
    steps(trainer)
    assert recorder.recorded
    tower, whole = trainer.model.clip.text, trainer.model.context.layout
    classes = tuple(range(4))
    layout, tokens = selection(whole, classes, torch.device("cpu"))
    there = [weakref.ref(tokens), weakref.ref(tower.arrangement(layout).order)]
    del tokens
    for table in (arrange, selection):
        table.cache_clear()
    assert all(tensor() is not None for tensor in there)
    trainer.captured.forget()
    gc.collect()
    assert all(tensor() is None for tensor in there)


def test_what_changes_with_every_step_is_never_captured(make, recorder):
    trainer = make("CoOp")
    trainer.set_model_mode("train")
    batch = next(iter(trainer.train_loader_x))
    for trainer.model.temperature in range(5):
        trainer.captured(trainer.model.loss, batch["img"], batch["label"])
    assert not recorder.recorded


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError, ValueError])
def test_a_capture_that_fails_is_one_warning(kind, both, recorder, capsys, monkeypatch):
    record = recorder.record

    def fail(call):
        record(call)
        raise kind("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(recorder, "record", fail)
    assert_same(both("MMTPA", steps))
    assert warnings_in(capsys) == [
        f"Warning: TRAIN.CUDA_GRAPH: training steps run without captures: {kind.__name__}: "
        "operation not permitted when stream is capturing"
    ]
    assert recorder.recorded == 1  # and it is not tried again


def wrongly(recorder, number=1):
    """Records so that the first tensor of one recording is wrong by one percent after a replay."""
    record = recorder.record

    def wrong(call):
        replay, returned = record(call)
        if recorder.recorded != number:
            return replay, returned
        return lambda: (replay(), returned[0].mul_(1.01)), returned

    return wrong


@pytest.mark.parametrize(
    ("number", "name"), [(1, "result 1"), (2, "the gradient of result 1 for context.ctx")]
)
def test_a_capture_that_computes_something_else_is_one_warning(
    number, name, both, recorder, capsys, monkeypatch
):
    monkeypatch.setattr(recorder, "record", wrongly(recorder, number))
    assert_same(both("CoOp", steps))
    [warning] = warnings_in(capsys)
    assert warning.startswith(
        f"Warning: TRAIN.CUDA_GRAPH: training steps run without captures: {name} is off by "
    )


def test_a_step_that_was_overwritten_has_no_gradient(make, recorder):
    trainer = make("CoOp")
    trainer.set_model_mode("train")
    batch = next(iter(trainer.train_loader_x))
    losses = [
        trainer.captured(trainer.model.loss, batch["img"], batch["label"])[0] for _ in range(WARM_UP + 2)
    ]
    losses[-1].backward()
    with pytest.raises(RuntimeError, match=r"overwritten this one; set TRAIN\.CUDA_GRAPH False"):
        losses[-2].backward()


def test_a_loss_that_is_not_finite_is_found_with_its_batch(make, recorder):
    trainer = make("CoOp", "OPTIM.MAX_EPOCH", 3, "TRAIN.PRINT_FREQ", 3)
    before_epoch = trainer.before_epoch

    def break_prompts():
        before_epoch()
        if trainer.epoch == 2:
            assert recorder.replays
            trainer.model.context.ctx.data[0, 0] = torch.nan

    trainer.before_epoch = break_prompts
    with pytest.raises(FloatingPointError, match="loss is nan at epoch 3 batch 1"):
        fit(trainer)


def test_numbers_that_stay_infinite_are_not_tried_for_ever(make, recorder, monkeypatch, capsys):
    monkeypatch.setattr(captured, "PATIENCE", 2)
    trainer = make("CoOp")
    calls = []

    def scores(images):
        calls.append(1)
        return images.mean((1, 2, 3)) - torch.inf

    for _ in range(WARM_UP + 9):
        trainer.captured_scores(scores, torch.ones(2, 3, 4, 4))
    assert len(calls) == WARM_UP + 9 + 3  # each compared with nothing, and then no more
    assert warnings_in(capsys) == [
        "Warning: TRAIN.CUDA_GRAPH: evaluation batches run without captures: the numbers to compare are not finite"
    ]


@pytest.mark.parametrize("method", METHODS)
def test_evaluations_are_captured(method, both, recorder, soon, images, capsys):
    """Again after the model has changed, when the class texts are others; the last batch is smaller."""

    def call(trainer):
        logits = []
        for _ in range(2):
            logits += [evaluate(trainer, images)]
            logits += [trainer.model_inference(images.roll(i, 0)) for i in range(2)]
            logits += [trainer.model_inference(images[:2])]
            trainer.set_model_mode("train")
            with torch.no_grad():
                for parameter in trainer.model.parameters():
                    parameter.mul_(1.1)
        return logits

    assert_same(both(method, call, *soon))
    assert recorder.recorded == 2
    assert warnings_in(capsys) == []


def test_evaluations_in_chunks_are_captured(both, recorder, images):
    def call(trainer):
        results = [evaluate(trainer, images)]
        results += [trainer.model_inference(images.roll(i, 0)) for i in range(WARM_UP + 2)]
        return [part for best in results for part in best]

    assert_same(both("MMTPA", call, "TEST.CLASS_CHUNK", 4, "TEST.TOP_K", 2))
    assert recorder.recorded == 1


def test_cached_features_are_looked_up_eagerly(both, recorder, images, tmp_path):
    def call(trainer):
        return [evaluate(trainer, images), *(trainer.model_inference(images) for _ in range(WARM_UP + 2))]

    assert_same(both("CoOp", call, "TEST.FEATURE_CACHE", str(tmp_path / "cache")))
    assert not recorder.recorded


def test_samples_of_classes_are_eager_and_their_evaluation_is_captured(both, recorder, images):
    def call(trainer):
        return [*steps(trainer), *(evaluate(trainer, images) for _ in range(1))]

    assert_same(both("CoOp", call, "TRAINER.CLASS_SAMPLE", 6))
    assert not recorder.recorded


def one_of_two(rank: int, folder: str, data_root: str) -> None:
    """Steps of KgCoOp in one of two processes; what one of them cannot, none does."""
    torch.set_num_threads(1)
    clip.load = functools.cache(clip.load)  # loading draws random numbers
    clip.load("mini", "fp32")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for failing in (False, True):
        recorder = Again()
        vars(captured)["recorder"] = functools.partial(lambda recorder, trainer: recorder, recorder)
        if failing and rank == 1:
            recorder.record = wrongly(recorder)  # type: ignore[method-assign]
        trainer = build(make_cfg("KgCoOp", Path(data_root), Path(folder) / f"{failing}"))
        steps(trainer)
        results[failing] = learned(trainer), recorder.replays, trainer.captured.recorder is None
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_capture_together_or_not_at_all(data_root, tmp_path):
    clip.load("mini", "fp32")
    one = build(make_cfg("KgCoOp", data_root, tmp_path / "one"))  # it makes the data, too
    steps(one)
    copies.spawn(one_of_two, (str(tmp_path), str(data_root)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for failing in (False, True):
        (first, *_), (second, *_) = (rank[failing] for rank in ranks)
        for name, value in learned(one).items():
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
    assert all(rank[False][1] >= 6 and not rank[False][2] for rank in ranks)
    assert all(rank[True][1] == 2 and rank[True][2] for rank in ranks)  # the comparison's replays alone


def test_an_unknown_choice(make):
    with pytest.raises(ValueError, match=r"^TRAIN\.CUDA_GRAPH is 'yes', choose from: auto, True, False$"):
        make("CoOp", "TRAIN.CUDA_GRAPH", "yes")


def test_a_cpu_cannot(make):
    with pytest.raises(
        ValueError, match=r"^TRAIN\.CUDA_GRAPH is True, but this run computes on the CPU, and only a GPU"
    ):
        make("CoOp", "TRAIN.CUDA_GRAPH", "'True'")
    for choice in ("auto", "'False'"):
        assert make("CoOp", "TRAIN.CUDA_GRAPH", choice).captured.recorder is None


@pytest.fixture
def gpu(monkeypatch, make):
    """What a trainer on a GPU looks like to ``recorder``."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(captured, "CUDARecorder", lambda device: ("recorder", device))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-1"))
    device = torch.device("cuda")

    def gpu(*opts, **attributes):
        cfg = make("CoOp", *opts).cfg.clone()
        cfg.defrost()
        return SimpleNamespace(cfg=cfg, device=device, **{"checks_losses_later": True} | attributes)

    return gpu


@pytest.mark.parametrize(
    ("opts", "attributes", "reason"),
    [
        (
            ["TRAINER.CLASS_SAMPLE", 6],
            {},
            r"TRAINER\.CLASS_SAMPLE is 6, so every step computes other class texts",
        ),
        ([], {"checks_losses_later": False}, "the original Dassl's engine waits for every step"),
        (
            ["TRAIN.FEATURE_CACHE", True, "TEST.FEATURE_CACHE", "{tmp}", "INPUT.TRANSFORMS", ("normalize",)],
            {},
            r"TRAIN\.FEATURE_CACHE looks up image features on the CPU in every step",
        ),
    ],
)
def test_why_a_gpu_cannot(opts, attributes, reason, gpu, tmp_path):
    opts = [str(tmp_path) if opt == "{tmp}" else opt for opt in opts]
    trainer = gpu(*opts, **attributes)
    trainer.cfg.TRAIN.CUDA_GRAPH = "True"
    with pytest.raises(ValueError, match=rf"^TRAIN\.CUDA_GRAPH is True, but {reason}: choose auto or False$"):
        captured.recorder(trainer)


def test_who_captures(gpu, monkeypatch):
    trainer = gpu()
    for choice, result in (("auto", ("recorder", trainer.device)), ("False", None)):
        trainer.cfg.TRAIN.CUDA_GRAPH = choice
        assert captured.recorder(trainer) == result

    monkeypatch.setattr(captured.data_parallel, "count", lambda: 2)
    monkeypatch.setattr(captured.data_parallel, "collect", lambda uuid: [uuid, "GPU-2"])
    assert captured.recorder(trainer) is None
    trainer.cfg.TRAIN.CUDA_GRAPH = "auto"
    assert captured.recorder(trainer) is None  # of several, only who asks for it
    trainer.cfg.TRAIN.CUDA_GRAPH = "True"
    assert captured.recorder(trainer) == ("recorder", trainer.device)
    monkeypatch.setattr(captured.data_parallel, "collect", lambda uuid: [uuid, uuid])
    with pytest.raises(ValueError, match="but 2 processes have 1 GPU between them, one each is needed"):
        captured.recorder(trainer)
