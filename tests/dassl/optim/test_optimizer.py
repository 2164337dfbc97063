import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.optim import build_optimizer
from dassl.optim.optimizer import AVAI_OPTIMS


def optim_cfg(**keys):
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    return cfg


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.backbone = nn.Linear(4, 3)
        self.classifier = nn.Linear(3, 2)


@pytest.mark.parametrize("name", AVAI_OPTIMS)
def test_every_optimiser_takes_a_step(name):
    net = Net()
    optimizer = build_optimizer(net, optim_cfg(NAME=name, LR=0.01))
    before = net.backbone.weight.detach().clone()
    net.backbone(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, net.backbone.weight)


def test_settings_reach_the_optimiser():
    keys = {"NAME": "sgd", "LR": 0.1, "MOMENTUM": 0.8, "WEIGHT_DECAY": 0.2, "SGD_NESTEROV": True}
    group = build_optimizer(Net(), optim_cfg(**keys)).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.8, 0.2)
    assert group["nesterov"]
    group = build_optimizer(Net(), optim_cfg(NAME="amsgrad", ADAM_BETA1=0.7)).param_groups[0]
    assert group["amsgrad"]
    assert group["betas"] == (0.7, 0.999)


def test_radam_decays_weights_apart_from_the_gradient():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer([weight], optim_cfg(NAME="radam", LR=0.1, WEIGHT_DECAY=0.5))
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_parameters_and_groups_are_taken_as_they_are():
    net = Net()
    assert len(build_optimizer(net.classifier.parameters(), optim_cfg()).param_groups[0]["params"]) == 2
    groups = [{"params": net.backbone.parameters(), "lr": 0.5}, {"params": [net.scale]}]
    assert [g["lr"] for g in build_optimizer(groups, optim_cfg(LR=0.1)).param_groups] == [0.5, 0.1]
    with pytest.warns(UserWarning, match="STAGED_LR has no effect"):
        optimizer = build_optimizer(net, optim_cfg(STAGED_LR=True), [{"params": [net.scale]}])
    assert [g["params"] for g in optimizer.param_groups] == [[net.scale]]


@pytest.mark.parametrize("wrap", [nn.Identity, nn.DataParallel])
def test_staged_lr(wrap):
    net = Net()
    model = net if wrap is nn.Identity else wrap(net)
    cfg = optim_cfg(STAGED_LR=True, NEW_LAYERS=("classifier",), LR=0.1, BASE_LR_MULT=0.01)
    base, new = build_optimizer(model, cfg).param_groups
    assert base["lr"] == pytest.approx(0.001)
    assert new["lr"] == 0.1
    assert {id(p) for p in base["params"]} == {id(p) for p in [net.scale, *net.backbone.parameters()]}
    assert {id(p) for p in new["params"]} == {id(p) for p in net.classifier.parameters()}


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r'unknown optimiser "sdg".*adam, amsgrad, sgd'):
        build_optimizer(Net(), optim_cfg(NAME="sdg"))
    with pytest.raises(ValueError, match=r'no "clasifier"; it has scale, backbone, classifier'):
        build_optimizer(Net(), optim_cfg(STAGED_LR=True, NEW_LAYERS=["clasifier"]))
    with pytest.raises(TypeError, match=r"needs an nn\.Module"):
        build_optimizer(Net().parameters(), optim_cfg(STAGED_LR=True, NEW_LAYERS=["classifier"]))
