"""Loss scaling without a look at the overflow flag against torch's own, by the fused optimisers of the CPU."""

import copy

import pytest
import torch

from trainers.loss_scaling import without_waiting

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.99)),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.05),
}
#: A step's gradients: whether they overflow, and whether the second parameter has one.
STEPS = [(True, True), (False, False), (False, True), (True, True), (False, True), (False, True)]


def parameters():
    return [torch.nn.Parameter(torch.arange(3.0)), torch.nn.Parameter(torch.ones(2, 2))]


def train(optimizer, parameters, steps, scaler=None):
    scaler = scaler or torch.amp.GradScaler("cpu", init_scale=4.0)
    for number, (overflows, second) in enumerate(steps):
        optimizer.zero_grad()
        loss = sum((p * (number + 1)).sin().sum() for p in (parameters if second else parameters[:1]))
        scaler.scale(loss * (float("inf") if overflows else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    return scaler


def assert_equal(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_are_those_of_torch_where_some_overflow(name):
    ours, theirs = parameters(), parameters()
    fused, plain = without_waiting(OPTIMISERS[name](ours)), OPTIMISERS[name](theirs)
    assert type(fused) is type(plain)
    scalers = train(fused, ours, STEPS), train(plain, theirs, STEPS)
    assert_equal(ours, theirs)
    assert scalers[0].get_scale() == scalers[1].get_scale() == 1.0


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_flag_is_not_looked_at(name, monkeypatch):
    ours = parameters()
    fused = without_waiting(OPTIMISERS[name](ours))
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("waits"))
    train(fused, ours, STEPS)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("to_fused", [True, False])
def test_a_state_dict_goes_from_one_form_to_the_other(name, to_fused):
    before, after = parameters(), parameters()
    fused, plain = without_waiting(OPTIMISERS[name](before)), OPTIMISERS[name](after)
    (first, ours), (second, theirs) = ((plain, after), (fused, before))[:: 1 if to_fused else -1]
    scaler = train(first, ours, STEPS[:3])
    state = copy.deepcopy(first.state_dict())
    assert not any(group["fused"] for group in state["param_groups"])
    with torch.no_grad():
        for mine, other in zip(ours, theirs):
            other.copy_(mine)
    second.load_state_dict(state)
    assert {bool(group["fused"]) for group in second.param_groups} == {to_fused}
    train(first, ours, STEPS[3:], copy.deepcopy(scaler))
    train(second, theirs, STEPS[3:], scaler)
    assert_equal(ours, theirs)


def test_what_has_no_fused_form_stays():
    for optimizer in (
        torch.optim.RMSprop(parameters()),
        torch.optim.RAdam(parameters()),
        torch.optim.SGD(parameters(), lr=0.1, momentum=0.9, dampening=0.5),
    ):
        assert without_waiting(optimizer) is optimizer
