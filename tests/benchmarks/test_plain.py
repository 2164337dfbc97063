"""The plain implementation gives what the methods give, and the counted operations are those that a step does."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.operations import image_operations, text_operations
from benchmarks.plain import make_plain
from clip import CLIP, Changes, Layout, TextPrompts
from tests.clip import tiny
from tests.trainers import harness


@pytest.mark.parametrize("method", ["MMTPA", "CoOp", "MaPLe", "MuDPT", "CoCoOp", "PLOT"])
def test_plain_gives_the_same_loss_and_gradients(method, tmp_path, data_root):
    trainer = harness.build(harness.make_cfg(method, data_root, tmp_path))
    batch = next(iter(trainer.train_loader_x))
    results = []
    for plain in (False, True):
        model = trainer.model
        if plain:
            make_plain(model)
        loss, _ = model.loss(batch["img"], batch["label"])
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


@pytest.fixture(scope="module")
def towers():
    return CLIP(tiny.model(tiny.state_dict()), "tiny")


def counted(call) -> float:
    """Operations that PyTorch sees in the call's products, without those of CPU attention.

    oneDNN's products are not counted, so torch's own are taken.
    """
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("tokens", [(), (7, 6, 9)])
def test_needed_operations_of_the_text_tower(tokens, towers):
    layout = Layout((5, 5), (4, 3, 6), (3, 2, 5), tokens)
    prompts = TextPrompts(
        torch.randn(2, 5, towers.text.width).requires_grad_(), torch.randn(13, towers.text.width), layout
    )

    def step():
        features = towers.text(prompts)
        (features.summary.sum() + (features.tokens.sum() if tokens else 0)).backward()

    assert 0.95 < counted(step) / text_operations(towers.text, prompts) < 1.1


@pytest.mark.parametrize("tokens", [False, True])
def test_needed_operations_of_the_image_tower(tokens, towers):
    images = torch.randn(2, 3, *towers.image.image_size)
    changes = Changes(torch.randn(3, 2, towers.image.width).requires_grad_())

    def step():
        features = towers.image(images, changes, tokens=tokens)
        (features.summary.sum() + (features.tokens.sum() if tokens else 0)).backward()

    assert 0.9 < counted(step) / image_operations(towers.image, images, changes, tokens=tokens) < 1.1
