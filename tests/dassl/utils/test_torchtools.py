import pytest
import torch
from torch import nn

from dassl.utils import count_num_param, init_network_weights, open_all_layers, open_specified_layers


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


def test_open_specified_layers_freezes_the_others(model):
    open_specified_layers(model, "2")
    assert [module.training for module in model] == [False, False, True]
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True]
    open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model)
    with pytest.raises(ValueError, match=r'"head" is not an attribute of the model \(layers: 0, 1, 2\)'):
        open_specified_layers(model, ["head"])


@pytest.mark.parametrize("init_type", ["normal", "xavier", "kaiming", "orthogonal"])
def test_initialisation(model, init_type):
    torch.manual_seed(0)
    before = [p.clone() for p in model.parameters()]
    nn.init.constant_(model[1].weight, 5)
    init_network_weights(model, init_type)
    assert not torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[2].weight, before[4])
    assert torch.count_nonzero(model[0].bias) == 0
    assert (model[1].weight == 1).all()
    if init_type == "normal":
        assert model[0].weight.std().item() == pytest.approx(0.02, rel=0.3)


def test_unknown_initialisation(model):
    with pytest.raises(NotImplementedError, match="uniform"):
        init_network_weights(model, "uniform")
