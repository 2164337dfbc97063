import pytest
from torch import nn

from dassl.utils import count_num_param


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2, bias=False))


def test_count(model):
    assert count_num_param(model) == 3 * 4 * 9 + 4 + 8 + 8
    assert count_num_param(params=model.parameters()) == count_num_param(model)
    groups = [{"params": list(model[0].parameters())}, {"params": model[2].weight}]
    assert count_num_param(params=groups) == 3 * 4 * 9 + 4 + 8
    with pytest.raises(ValueError, match="at least one"):
        count_num_param()
