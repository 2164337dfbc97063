"""What tests of train.py share."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="module")
def _towers(towers_are_loaded_once):
    """All runs of a process share them."""


@pytest.fixture
def interrupted(monkeypatch):
    """`interrupted(epoch=1)`: from here on Ctrl-C comes in the first step of the second epoch; or never."""
    from trainers.base import PromptTrainer

    plain = PromptTrainer.forward_backward

    def interrupted(epoch: int = 0, never: bool = False) -> None:
        def forward_backward(self, batch):
            if not never and (self.epoch, self.batch_idx) == (epoch, 0):
                signal.raise_signal(signal.SIGINT)
            return plain(self, batch)

        monkeypatch.setattr(PromptTrainer, "forward_backward", forward_backward)

    return interrupted
