"""Captured steps on a real device: what no stand-in can show."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from tests.trainers.harness import LEARNERS, assert_close, build, evaluate, learned, make_cfg
from trainers.captured import WARM_UP
from trainers.coop import CoOp, CoOpModel
from trainers.cuda_graphs import CUDARecorder


@pytest.fixture
def make(data_root, tmp_path):
    def make(method, *opts, kind=None):
        cfg = make_cfg(method, data_root, tmp_path, *opts, "USE_CUDA", True)
        torch.manual_seed(1)
        trainer = kind(cfg) if kind else build(cfg)
        for parameter in trainer.model.parameters():
            values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            parameter.data.copy_(0.02 * values)
        torch.manual_seed(1)
        return trainer

    return make


def steps(trainer, count):
    """Losses and gradients of steps on one batch, and the parameters then."""
    trainer.set_model_mode("train")
    trainer.epoch, trainer.num_batches = 0, 1000
    batch = next(iter(trainer.train_loader_x))
    taken = []
    for trainer.batch_idx in range(count):
        summary = trainer.forward_backward(batch)
        taken.append([summary["loss"], [p.grad for p in trainer.model.parameters()]])
    return taken, learned(trainer)


def agree(make, method, *opts, count=WARM_UP + 4, tolerance=1e-3, kind=None):
    """A trainer whose steps were captured and did what eager ones do."""
    results = []
    for choice in ("'False'", "auto"):
        trainer = make(method, *opts, "TRAIN.CUDA_GRAPH", choice, kind=kind)
        results.append(steps(trainer, count))
    (plain, plain_learned), (ours, our_learned) = results
    for (loss, gradients), (our_loss, our_gradients) in zip(plain, ours):
        assert_close(our_loss, loss, tolerance)
        for ours_of, theirs in zip(our_gradients, gradients):
            assert (ours_of is None) == (theirs is None)
    for name, value in plain_learned.items():
        assert_close(our_learned[name], value, tolerance)
    return trainer


@pytest.mark.parametrize("method", LEARNERS)
def test_every_method_is_captured(method, make, capsys):
    trainer = agree(make, method)
    assert trainer.captured._captures, capsys.readouterr().out
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16"])
@pytest.mark.parametrize("method", ["MMTPA", "CoOp", "ProGrad", "APLe"])
def test_in_every_precision(method, precision, make, capsys):
    section = {"CoOp": "COOP", "ProGrad": "COOP", "APLe": "APLE"}.get(method, method)
    opts = [f"TRAINER.{section}.PREC", precision]
    trainer = agree(make, method, *opts, count=16 if precision == "amp" else WARM_UP + 4, tolerance=5e-2)
    assert trainer.captured._captures, capsys.readouterr().out


def test_with_activations_computed_twice(make, capsys):
    trainer = agree(make, "MMTPA", "MODEL.TEXT_CHUNK", 3)
    assert trainer.captured._captures, capsys.readouterr().out


class NoisyModel(CoOpModel):
    def loss(self, images, labels):
        return super().loss(images + 0.1 * torch.randn_like(images), labels)


class Noisy(CoOp):
    model_class = NoisyModel


def test_every_replay_draws_anew_and_what_an_eager_step_would(make):
    trainer = agree(make, "CoOp", kind=Noisy)
    assert trainer.captured._captures
    (taken, _) = steps(trainer, 2)
    assert taken[0][0] != taken[1][0]


class WaitingModel(CoOpModel):
    def loss(self, images, labels):
        assert float(images.sum()) == float(images.sum())
        return super().loss(images, labels)


class Waiting(CoOp):
    model_class = WaitingModel


def test_a_capture_that_fails_leaves_everything_as_it_was(make, capsys):
    stream = torch.cuda.current_stream()
    trainer = agree(make, "CoOp", kind=Waiting)
    assert (
        capsys.readouterr().out.count("Warning: TRAIN.CUDA_GRAPH: training steps run without captures: ") == 1
    )
    assert trainer.captured.recorder is None
    assert torch.cuda.current_stream() == stream
    assert torch.rand(3, device="cuda").isfinite().all()  # its generator is not held by the capture
    other = make("CoOp")
    steps(other, WARM_UP + 2)
    assert other.captured._captures  # another trainer can


def test_batches_become_free_after_a_capture_that_failed():
    """Their memory is used on two streams, and waits for both where no capture is underway."""
    recorder, x = CUDARecorder(torch.device("cuda")), torch.ones(4, device="cuda")
    recorder.beside(lambda: x.sum())
    with pytest.raises(RuntimeError):
        recorder.record(lambda: x.sum().item())
    side = torch.cuda.Stream()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(8):
        torch.empty(2**24, device="cuda").record_stream(side)
        torch.cuda.synchronize()
    assert torch.cuda.memory_reserved() <= before + 2 * 2**26
    replay, y = recorder.record(lambda: x + 1)
    replay()
    assert (y == 2).all()


def test_evaluations_are_captured(make):
    trainer = make("MMTPA", "TRAIN.CUDA_GRAPH", "'True'")
    images = torch.randn(6, 3, 32, 32, device="cuda")
    for _ in range(2):  # two states of the model: the memory of the first one's captures is used again
        expected = [evaluate(trainer, images.roll(i, 0)) for i in range(3)]
        trainer.set_model_mode("eval")
        logits = [trainer.model_inference(images.roll(i % 3, 0)) for i in range(WARM_UP + 3)]
        assert trainer.captured_scores._captures
        for i, ours in enumerate(logits):
            assert_close(ours, expected[i % 3], 1e-4)
        steps(trainer, WARM_UP + 2)


def test_a_captured_step_does_not_wait(make):
    trainer = make("MMTPA")
    steps(trainer, WARM_UP + 2)
    assert trainer.captured._captures
    trainer.set_model_mode("train")
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = trainer.captured(trainer.model.loss, images, labels)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_released_memory_is_free_again():
    recorder = CUDARecorder(torch.device("cuda"))
    x = torch.ones(64, 64, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()

    def large():
        y = torch.empty(2**28, device="cuda").fill_(1)
        return x + y[0]

    for _ in range(2):  # a new pool follows
        replay, returned = recorder.record(large)
        replay()
        assert (returned == 2).all()
        assert torch.cuda.memory_reserved() >= before + 2**30
        del replay, returned
        recorder.release()
        assert torch.cuda.memory_reserved() < before + 2**28


def test_a_recorder_captures_while_others_call_cuda():
    """As the data loader's pinning thread does."""
    import threading

    stop = threading.Event()

    def pin():
        while not stop.is_set():
            torch.empty(1 << 16).pin_memory().cuda(non_blocking=True)

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        recorder, x = CUDARecorder(torch.device("cuda")), torch.ones(64, 64, device="cuda")
        for _ in range(5):
            recorder.beside(lambda: x @ x)
            replay, y = recorder.record(lambda: x @ x)
            replay()
            assert (y == 64).all()
    finally:
        stop.set()
        thread.join()
