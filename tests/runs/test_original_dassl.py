"""Schedulers written as in the original Dassl, on current torch."""

import pytest
import torch
from torch.optim import lr_scheduler

from runs import original_dassl


@pytest.fixture
def warm_up(monkeypatch):
    """A scheduler of the original's form: passes `verbose` on, holds the scheduler that follows it."""
    monkeypatch.setattr(lr_scheduler, "_LRScheduler", lr_scheduler._LRScheduler)
    original_dassl.adapt()

    class WarmUp(lr_scheduler._LRScheduler):
        def __init__(self, optimizer, successor, last_epoch=-1, verbose=False):
            self.successor = successor
            super().__init__(optimizer, last_epoch, verbose)

        def get_lr(self):
            return [1e-5 for _ in self.base_lrs]

        def step(self, epoch=None):
            if self.last_epoch >= 1:
                self.successor.step(epoch)
                self._last_lr = self.successor.get_last_lr()
            else:
                super().step(epoch)

    def build():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
        return optimizer, WarmUp(optimizer, lr_scheduler.MultiStepLR(optimizer, [2, 4], gamma=0.5))

    return build


def rates(optimizer, scheduler, epochs):
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_warm_up_is_followed_by_the_schedule(warm_up):
    assert rates(*warm_up(), 7) == pytest.approx([1e-5, 1e-5, 1e-5, 5e-6, 5e-6, 2.5e-6, 2.5e-6])


def test_a_saved_scheduler_is_plain_data_and_continues(warm_up, tmp_path):
    expected = rates(*warm_up(), 7)
    optimizer, scheduler = warm_up()
    rates(optimizer, scheduler, 3)
    torch.save(
        {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "checkpoint"
    )

    state = torch.load(tmp_path / "checkpoint", weights_only=True)
    optimizer, scheduler = warm_up()
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    assert rates(optimizer, scheduler, 4) == expected[3:]
