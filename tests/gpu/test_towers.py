"""The text tower's rows of groves on a real device: the packed arrangement's results, by fused attention alone."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from torch.nn.attention import SDPBackend, sdpa_kernel

from clip import CLIP, TextPrompts
from tests.clip import tiny
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
