"""A capture that the device has given up, by stand-ins for what torch then says; tests/gpu/test_captured.py has one."""

from types import SimpleNamespace

import pytest
import torch

from trainers.cuda_graphs import ENDS, CUDARecorder


class GivenUp:
    """Its capture cannot end, and with ``reset`` the allocator's part in it ends or does not."""

    def __init__(self, allocator):
        self.allocator = allocator

    def capture_begin(self, pool, capture_error_mode):
        self.allocator.recording.append(pool)

    def capture_end(self):
        if self.allocator.valid:
            self.allocator.recording.pop()
            return
        raise RuntimeError("operation failed due to a previous error during capture")

    def reset(self):
        if self.allocator.resets:
            self.allocator.recording.clear()


@pytest.fixture
def allocator(monkeypatch):
    allocator = SimpleNamespace(recording=[], released=[], resets=False, valid=False)

    def end(device, pool):
        if pool not in allocator.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        allocator.recording.remove(pool)

    for name in ENDS:
        monkeypatch.delattr(torch._C, name, raising=False)
    allocator.name = lambda name: monkeypatch.setattr(torch._C, name, end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda device, pool: allocator.released.append(pool))
    generator = SimpleNamespace(clone_state=lambda: None, graphsafe_set_state=lambda state: None)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: GivenUp(allocator))
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    return allocator


def fail():
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture
def recorder(allocator):
    recorder = CUDARecorder(torch.device("cuda", 0))
    recorder.pool = (0, 7)
    return recorder


@pytest.mark.parametrize("name", ENDS)
def test_the_allocator_ends_it_too(name, allocator, recorder):
    allocator.name(name)
    with pytest.raises(RuntimeError, match="not permitted"):
        recorder.record(fail)
    assert (allocator.recording, allocator.released) == ([], [(0, 7)])
    assert recorder.pool is None


@pytest.mark.parametrize("already", ["resets", "valid"])
def test_but_once(already, allocator, recorder):
    """Where torch has done it, a pool that is released twice would go with captures that still use it."""
    allocator.name(ENDS[0])
    setattr(allocator, already, True)
    with pytest.raises(RuntimeError, match="not permitted"):
        recorder.record(fail)
    assert (allocator.recording, allocator.released) == ([], [])
