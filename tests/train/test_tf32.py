"""Whether products are rounded to TF32."""

import pytest
import torch


@pytest.fixture
def tf32():
    """Whether fp32 products are rounded: of matrices, of convolutions."""
    switches = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [switch.allow_tf32 for switch in switches]
    yield lambda: [switch.allow_tf32 for switch in switches]
    for switch, value in zip(switches, before):
        switch.allow_tf32 = value


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_is_off_unless_asked_for(run_train, short_run, tf32, wanted):
    assert run_train(*short_run, *(["TRAIN.TF32", True] if wanted else [])).code == 0
    assert tf32() == [wanted, wanted]
