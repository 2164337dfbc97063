"""Groups, lengths and learning rates that Dassl's config cannot say."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from trainers import optimisers
from trainers.coop import CoOpModel
from trainers.optimisers import Cosine, Group


def rates(optimizer, scheduler, steps):
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return torch.tensor(seen)


def sgd(*lrs):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])


def test_a_cosine_is_torchs_for_every_group_and_begins_anew_in_each_stage():
    ours, theirs = sgd(0.1, 0.02), sgd(0.1, 0.02)
    found = rates(ours, Cosine(ours, [4, 10], 1e-3), 10)
    torch.testing.assert_close(found[:4], rates(theirs, CosineAnnealingLR(theirs, 4, 1e-3), 4))
    theirs = sgd(0.1, 0.02)
    torch.testing.assert_close(found[4:], rates(theirs, CosineAnnealingLR(theirs, 6, 1e-3), 6))
    assert [group["lr"] for group in ours.param_groups] == pytest.approx([1e-3, 1e-3])


def test_a_run_has_the_optimiser_the_steps_and_the_rates_that_its_settings_say(make, monkeypatch):
    monkeypatch.setattr(CoOpModel, "groups", lambda self: [Group([self.context.ctx], 0.5)], raising=True)
    recipe = ["OPTIM.NAME", "adamw", "OPTIM.LR", 0.1, "OPTIM.ADAM_EPS", 1e-3, "OPTIM.LR_SCHEDULER", "cosine"]
    recipe += ["OPTIM.LR_STEPS", True, "OPTIM.LR_FLOOR", 1e-4, "OPTIM.STEPS_PER_SHOT", 3]
    trainer = make("CoOp", *recipe)
    assert trainer.optim.param_groups[0]["eps"] == 1e-3
    assert (
        trainer.max_epoch == 2
    )  # of 4 batches: 3 steps for each of 2 shots are 6, the nearest whole epochs have 8
    seen, step = [], trainer.forward_backward

    def record(batch):
        seen.append(trainer.get_current_lr())
        return step(batch)

    monkeypatch.setattr(trainer, "forward_backward", record)
    trainer.train()
    reference = sgd(0.05)
    expected = rates(reference, CosineAnnealingLR(reference, 8, 1e-4), 8)
    torch.testing.assert_close(torch.tensor(seen), expected[:, 0])


def test_a_schedule_of_epochs_is_as_long_as_the_training(make):
    """Where steps for each shot decide how long that is."""
    recipe = ["OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", -1, "OPTIM.MAX_EPOCH", 1]
    trainer = make("CoOp", *recipe, "OPTIM.LR", 0.1, "OPTIM.STEPS_PER_SHOT", 8)
    assert trainer.max_epoch == 4
    reference = sgd(0.1)
    expected = rates(reference, CosineAnnealingLR(reference, 4), 4)
    torch.testing.assert_close(rates(trainer.optim, trainer.sched, 4), expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["OPTIM.LR_FLOOR", 1e-6], "OPTIM.LR_FLOOR is 1e-06, only OPTIM.LR_STEPS True ends there"),
        (["OPTIM.LR_STEPS", True], "a cosine without warm-up"),
        (["OPTIM.LR_STEPS", True, "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1], "WARMUP_EPOCH 1"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings, said, make):
    with pytest.raises(ValueError, match=said) as error:
        make("CoOp", "OPTIM.LR_SCHEDULER", "single_step", *settings)
    assert "\n" not in str(error.value)


def test_steps_for_each_shot_need_shots_where_something_is_trained(make):
    trainer = make("CoOp", "OPTIM.STEPS_PER_SHOT", 3, "DATASET.NUM_SHOTS", -1, "OPTIM.MAX_EPOCH", 7)
    assert trainer.max_epoch == 7  # an evaluation needs none
    with pytest.raises(ValueError, match=r"OPTIM.STEPS_PER_SHOT is 3, DATASET.NUM_SHOTS -1: 1 or more"):
        trainer.train()


def test_groups_of_one_module_are_all_its_parameters(make):
    trainer = make("CoOp")
    built = optimisers.optimizer(trainer.cfg, trainer.model, [])
    assert [p for group in built.param_groups for p in group["params"]] == list(trainer.model.parameters())
