"""A training step never waits for the device: nothing that it computes on the device is looked at in Python."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainers.harness import LEARNERS

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2"}


class Waits(TorchDispatchMode):
    """Notes the operations that need a value from the device before Python goes on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in WAITS:
            stack = traceback.extract_stack()
            # on a CPU, transport looks after every iteration whether it may stop
            if not any("/alignment/" in frame.filename for frame in stack):
                self.seen.append((name, [f"{frame.filename}:{frame.lineno}" for frame in stack]))
        return func(*args, **(kwargs or {}))


def test_waits_are_noticed():
    with Waits() as waits:
        float(torch.ones(2).sum())
    assert [name for name, _ in waits.seen] == ["_local_scalar_dense"]


@pytest.mark.parametrize("method", LEARNERS)
def test_a_step_does_not_wait(method, make):
    trainer = make(method)
    trainer.set_model_mode("train")
    batches = list(trainer.train_loader_x)
    trainer.epoch, trainer.num_batches = 0, 100
    with Waits() as waits:
        for trainer.batch_idx, batch in enumerate(batches[:2]):
            summary = trainer.forward_backward(batch)
    assert waits.seen == [], "\n".join(waits.seen[0][1])
    assert all(isinstance(value, torch.Tensor) for value in summary.values())
