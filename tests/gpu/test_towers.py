"""The text tower's rows of groves on a real device: the packed arrangement's results, by fused attention alone."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from torch.nn.attention import SDPBackend, sdpa_kernel

from clip import CLIP, Changes, TextPrompts, Tokens
from tests.clip import tiny
from tests.clip.plain_towers import W_T, draw, entering, every_kind
from tests.clip.test_text_tower import FORESTS, assert_close, both_forms, make_prompts, with_deep

FUSED = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
#: Of the largest value.
ERROR = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 6e-2}


@pytest.mark.parametrize("precision", ERROR)
@pytest.mark.parametrize("name", FORESTS)
def test_both_arrangements_give_the_same(name, precision):
    towers = CLIP(tiny.model(tiny.state_dict()), "tiny", precision).cuda()
    root, branch = (part.detach().cuda().requires_grad_() for part in make_prompts(FORESTS[name], 128))
    deep = (torch.randn(2, len(root), 3, 128) * 0.05).cuda().requires_grad_()
    prompts = TextPrompts(root, branch, FORESTS[name])
    towers.text.packed = False
    with sdpa_kernel(FUSED):  # it takes the mask; nothing falls back to plain products
        towers.text(prompts, with_deep(deep))
    for packed, groves in zip(*both_forms(towers, prompts, deep)):
        assert_close(groves.float(), packed.float(), ERROR[precision])


@pytest.mark.parametrize("precision", ERROR)
def test_changed_towers_give_the_same_in_both_arrangements(precision):
    """Tokens that are inserted, then some that differ by class, and changes of all kinds of weights."""
    towers, layout = CLIP(tiny.model(tiny.state_dict()), "tiny", precision).cuda(), FORESTS["ends"]
    own = Tokens(2, draw(len(layout.branches), 1, 2, W_T, seed=9), offset=1)
    changes = Changes(tokens=(*entering((1, 2, W_T), 1, 0.3), own), weights=every_kind(W_T, ["ln_final"]))
    root, branch, *tensors = (t.detach().cuda() for t in (*make_prompts(layout, W_T), *changes.tensors()))
    there = iter(tensors)
    changes, results = changes.map(lambda _: next(there).requires_grad_()), []
    for towers.text.packed in (True, False):
        summary = towers.text(TextPrompts(root, branch, layout), changes).summary.float()
        results.append([summary, *torch.autograd.grad(summary.square().mean(), changes.tensors())])
    for packed, groves in zip(*results):
        assert_close(groves.float(), packed.float(), 3 * ERROR[precision])
