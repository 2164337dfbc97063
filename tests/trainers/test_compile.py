"""TRAIN.COMPILE: the same results, in whole graphs, and nothing is compiled anew from step to step.

What captures and differentiates the graphs is tested; the code that is made of them is torch's and needs a compiler.
"""

import functools

import pytest
import torch
from safetensors.torch import save_file

import clip
from tests.clip import tiny
from tests.trainers.harness import assert_close, build, evaluate, learned, make_cfg
from tests.trainers.standin import Again, capture_on_cpu
from trainers.captured import WARM_UP


@pytest.fixture
def counters(monkeypatch):
    """Of what is compiled; the towers are shared with no other test, for compiling changes them."""
    monkeypatch.setattr(clip, "load", clip.load.__wrapped__)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """Settings of a CLIP of two blocks: every further one is only more to compile."""
    file = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file(tiny.state_dict(layers=2), file)
    depths = ["TRAINER.MMTPA.TEXT_PROMPT_DEPTH", 2, "TRAINER.MMTPA.VISION_PROMPT_DEPTH", 2]
    return ["MODEL.BACKBONE.NAME", f"quickgelu:{file}", *depths]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("method", ["MMTPA", "CoOp"])
def test_compiled_towers_give_the_same(method, packed, shallow, counters, data_root, tmp_path, images):
    results = []
    for compiled in (False, True):
        opts = [*shallow, "TRAIN.COMPILE", compiled]
        trainer = build(make_cfg(method, data_root, tmp_path / str(compiled), *opts))
        trainer.model.clip.text.packed = packed
        trainer.set_model_mode("train")
        trainer.epoch, trainer.num_batches = 0, 100
        graphs = []
        trainer.batch_idx = 0
        for batch in list(trainer.train_loader_x)[:3]:
            loss = trainer.forward_backward(batch)["loss"]
            graphs.append(counters["stats"]["unique_graphs"])
        results.append([loss, *learned(trainer).values(), evaluate(trainer, images)])
    assert graphs == [2, 2, 2]
    assert not counters["graph_break"]
    for plain, captured in zip(*results):
        assert_close(captured, plain, 1e-5)


def test_compiled_towers_can_be_captured(shallow, counters, data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile.func, backend="eager"))
    recorder = Again()
    results = []
    for captured in (None, recorder):
        capture_on_cpu(monkeypatch, captured)
        opts = [*shallow, "TRAIN.COMPILE", True]
        trainer = build(make_cfg("CoOp", data_root, tmp_path / str(captured is None), *opts))
        trainer.set_model_mode("train")
        trainer.epoch, trainer.num_batches = 0, 100
        batch = next(iter(trainer.train_loader_x))
        for trainer.batch_idx in range(WARM_UP + 2):
            loss = trainer.forward_backward(batch)["loss"]
        results.append([loss, *learned(trainer).values()])
    assert recorder.replays
    for plain, captured in zip(*results):
        assert_close(captured, plain, 1e-5)
