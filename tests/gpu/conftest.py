"""The device that these tests run on. ``MMPROMPT_GPU_TESTS=cpu`` runs those of training on a CPU, to try the tests."""

import contextlib
import os
from collections.abc import Iterator

import pytest
import torch

from tests.trainers.device_cases import OnCPU, few_templates


class RealDevice:
    """What waits in a step is an error of torch's."""

    use_cuda = True

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def device(monkeypatch):
    few_templates(monkeypatch)
    if os.environ.get("MMPROMPT_GPU_TESTS") == "cpu":
        return OnCPU()
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return RealDevice()
