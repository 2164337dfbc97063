"""Weights stand in the dtype that they are used in, and what comes out is as exact as with casts in every step."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clip import CLIP, PRECISIONS, Changes, linear
from tests.clip import tiny
from tests.clip.test_image_tower import resnet
from tests.clip.test_text_tower import TEXTS

AUTOCAST = {"amp": torch.float16, "bf16": torch.bfloat16}
#: Largest error of a tower, of the largest value.
ERROR = {"fp32": 1e-6, "fp16": 3e-3, "amp": 3e-3, "bf16": 2e-2}


class Casts(TorchDispatchMode):
    """Notes casts of given tensors."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.seen = {id(weight): name for name, weight in weights}, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and id(args[0]) in self.weights:
            self.seen.append(self.weights[id(args[0])])
        return func(*args, **(kwargs or {}))


def under(precision):
    dtype = AUTOCAST.get(precision, torch.bfloat16)
    return torch.autocast("cpu", dtype=dtype, enabled=precision in AUTOCAST)


@pytest.fixture(scope="module", params=PRECISIONS)
def cast(request, weights):
    return request.param, CLIP(tiny.model(weights), "tiny", request.param)


def test_products_are_cast_and_norms_are_not(cast):
    precision, towers = cast
    for name, weight in towers.named_parameters():
        norm = ".ln_" in name or name.endswith(("token_embedding.weight", "logit_scale"))
        stream = name.endswith(("class_embedding", "positional_embedding"))
        wanted = PRECISIONS[precision].stream if stream else PRECISIONS[precision].products
        if name.startswith("text.") and stream:
            wanted = torch.float32
        assert weight.dtype == (torch.float32 if norm else wanted), name


def test_no_weight_is_cast_in_a_pass(cast, towers, monkeypatch):
    monkeypatch.setattr(linear, "is_imitated", lambda dtype: False)  # which is a cast in every product
    precision, cast = cast
    prompts = torch.randn(2, 3, 192, requires_grad=True)
    with under(precision), Casts(cast.named_parameters()) as casts:
        cast.image(torch.randn(2, 3, 32, 32), Changes(prompts), tokens=True).tokens.float().sum().backward()
        cast.text.encode(TEXTS)
    assert casts.seen == []
    with torch.autocast("cpu", dtype=torch.bfloat16), Casts(towers.named_parameters()) as casts:
        towers.text.encode(TEXTS)
    assert casts.seen  # of fp32 weights they would be seen


@pytest.mark.parametrize("inside", [True, False], ids=["autocast", "alone"])
def test_towers_are_close_to_exact_ones(inside, cast, towers):
    """With autocast around them, as in a step, and without, as where zero-shot texts are made."""
    precision, cast = cast
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with under(precision if inside else "fp32"):
        ours = cast.text.encode(TEXTS), cast.image(images).summary
    for mine, exact in zip(ours, (towers.text.encode(TEXTS), towers.image(images).summary)):
        assert mine.dtype == PRECISIONS[precision].products
        assert (mine.float() - exact).abs().max() <= ERROR[precision] * exact.abs().max()


def test_they_are_as_exact_as_autocast_with_fp32_weights(weights, towers):
    exact, cast = towers.text.encode(TEXTS), CLIP(tiny.model(weights), "tiny", "bf16")
    with under("bf16"):
        errors = [(tower.text.encode(TEXTS).float() - exact).norm() for tower in (cast, towers)]
    assert errors[0] <= 1.2 * errors[1]


def test_a_block_stays_open_clips_own(cast, original):
    """The activation's factors moved into other weights: the block itself computes the same."""
    precision, cast = cast
    blocks = [model.transformer.resblocks[0] for model in (cast.text, original)]
    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0))
    with under("amp" if precision == "fp16" else precision):
        ours, exact = blocks[0](x), blocks[1](x)
    assert (ours - exact).abs().max() <= ERROR[precision] * exact.abs().max()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_hash_is_that_of_the_weights_before(precision, weights, towers):
    assert CLIP(tiny.model(weights), "tiny", precision).hash == towers.hash


@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_no_weight_of_a_resnet_is_cast_in_a_pass(precision):
    _, towers = resnet(precision)
    convolutions = [(name, p) for name, p in towers.named_parameters() if p.dim() > 1 or "attnpool" in name]
    with under(precision), Casts(convolutions) as casts:
        towers.image(torch.randn(2, 3, 32, 32), tokens=True)
        towers.image(torch.randn(2, 3, 32, 32))
    assert casts.seen == []
