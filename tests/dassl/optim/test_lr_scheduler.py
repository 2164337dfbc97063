import math
import warnings

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.utils import load_checkpoint


def optim_cfg(**keys):
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list(["NAME", "sgd"])
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    return cfg


def build(cfg):
    optimizer = build_optimizer([nn.Parameter(torch.zeros(1))], cfg)
    return optimizer, build_lr_scheduler(optimizer, cfg)


def rates(optimizer, scheduler, epochs):
    used = []
    for _ in range(epochs):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


COSINE = {"LR_SCHEDULER": "cosine", "LR": 0.01, "MAX_EPOCH": 3}
WARM = {"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_CONS_LR": 1e-5}


def test_constant_warm_up_then_cosine_from_its_start():
    # The rates that were recorded from CoOp's and MaPLe's releases with these settings.
    assert rates(*build(optim_cfg(**COSINE, **WARM)), 3) == pytest.approx([1e-5, 0.01, 0.0075])


def test_cosine():
    expected = [0.01 * (1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert rates(*build(optim_cfg(**COSINE)), 3) == pytest.approx(expected)


def test_warm_up_without_recount_skips_the_successor_ahead():
    used = rates(*build(optim_cfg(**{**COSINE, "MAX_EPOCH": 4}, **WARM, WARMUP_RECOUNT=False)), 3)
    # The successor counts from 1, but starts at the full rate: from there it falls as from epoch 1 to 2.
    fall = (1 + math.cos(math.pi * 2 / 4)) / (1 + math.cos(math.pi * 1 / 4))
    assert used == pytest.approx([1e-5, 0.01, 0.01 * fall])


def test_linear_warm_up():
    cfg = optim_cfg(LR=0.1, MAX_EPOCH=10, WARMUP_EPOCH=4, WARMUP_TYPE="linear", WARMUP_MIN_LR=1e-4)
    assert rates(*build(cfg), 5) == pytest.approx([1e-4, 0.025, 0.05, 0.075, 0.1])


def test_steps():
    cfg = optim_cfg(LR=1.0, LR_SCHEDULER="single_step", STEPSIZE=(5, 2), GAMMA=0.1)
    assert rates(*build(cfg), 5) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cfg = optim_cfg(LR=1.0, LR_SCHEDULER="single_step", STEPSIZE=(-1,), MAX_EPOCH=3)
    assert rates(*build(cfg), 4) == pytest.approx([1, 1, 1, 0.1])
    cfg = optim_cfg(LR=1.0, LR_SCHEDULER="multi_step", STEPSIZE=(1, 3), GAMMA=0.1)
    assert rates(*build(cfg), 4) == pytest.approx([1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    "keys",
    [
        {**COSINE, **WARM, "MAX_EPOCH": 8, "WARMUP_EPOCH": 2},
        {"LR": 0.1, "LR_SCHEDULER": "multi_step", "STEPSIZE": (3, 5), **WARM},
        {"LR": 0.1, "LR_SCHEDULER": "single_step", "STEPSIZE": (2,), "WARMUP_EPOCH": 3},
        {"LR": 0.1, "LR_SCHEDULER": "multi_step", "STEPSIZE": (3, 5)},
    ],
)
@pytest.mark.parametrize("done", [0, 1, 2, 4])
def test_state_is_plain_data_and_continues_exactly(keys, done, tmp_path):
    undisturbed = rates(*build(optim_cfg(**keys)), 8)
    optimizer, scheduler = build(optim_cfg(**keys))
    rates(optimizer, scheduler, done)
    torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "state")

    optimizer, scheduler = build(optim_cfg(**keys))
    for part, state in zip((optimizer, scheduler), torch.load(tmp_path / "state", weights_only=True)):
        part.load_state_dict(state)
    assert rates(optimizer, scheduler, 8 - done) == undisturbed[done:]


def test_live_successor_in_a_checkpoint_of_the_original(tmp_path):
    cfg = optim_cfg(**{**COSINE, "MAX_EPOCH": 8}, **WARM)
    undisturbed = rates(*build(cfg), 8)
    optimizer, scheduler = build(cfg)
    rates(optimizer, scheduler, 4)
    live = {key: value for key, value in vars(scheduler).items() if key != "optimizer"}
    assert isinstance(live["successor"], torch.optim.lr_scheduler.CosineAnnealingLR)
    del optimizer.step  # torch's scheduler patches it, with a function that cannot be pickled
    torch.save([optimizer.state_dict(), live], tmp_path / "state")

    optimizer, scheduler = build(cfg)
    for part, state in zip((optimizer, scheduler), load_checkpoint(tmp_path / "state")):
        part.load_state_dict(state)
    assert rates(optimizer, scheduler, 4) == undisturbed[4:]


@pytest.mark.parametrize("kind", [ConstantWarmupScheduler, LinearWarmupScheduler])
def test_verbose_is_still_accepted(kind):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(optimizer, successor, 1, 1e-5, last_epoch=-1, verbose=True)
    assert optimizer.param_groups[0]["lr"] == 1e-5


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r'unknown schedule "cosin".*single_step, multi_step, cosine'):
        build(optim_cfg(LR_SCHEDULER="cosin"))
    with pytest.raises(ValueError, match='WARMUP_TYPE "slow"'):
        build(optim_cfg(**{**COSINE, **WARM, "WARMUP_TYPE": "slow"}))
    with pytest.raises(TypeError, match="an integer for single_step"):
        build(optim_cfg(LR_SCHEDULER="single_step", STEPSIZE=(0.5,)))
