"""What stands in for a GPU where captures are tested without one."""

from typing import Any

import torch

from trainers import captured


class Again:
    """Records on the CPU: a replay runs the recorded function again, on the same buffers.

    As on a GPU, what a recording returned is set anew by its replay, recordings share their memory (a replay destroys
    what the others returned), and grad mode and autocast are those of the recording.
    """

    def __init__(self):
        self.recorded = self.replays = 0
        self._returned = []

    def beside(self, call):
        return call()

    def record(self, call):
        self.recorded += 1
        autocast = {
            "enabled": torch.is_autocast_enabled("cpu"),
            "dtype": torch.get_autocast_dtype("cpu"),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }
        assert not autocast["cache_enabled"]
        enabled = torch.is_grad_enabled()
        returned = call()
        self._returned.append(returned)

        def replay():
            self.replays += 1
            with torch.set_grad_enabled(enabled), torch.autocast("cpu", **autocast):
                again = call()
            with torch.no_grad():
                for tensors in self._returned:
                    for i, tensor in enumerate(tensors):
                        if tensor is not None and tensors is returned:
                            tensor.copy_(again[i])
                        elif tensor is not None and tensor.is_floating_point():
                            tensor.fill_(torch.nan)

        return replay, returned

    def release(self):
        self._returned.clear()

    def random_state(self):
        return torch.get_rng_state()

    def set_random_state(self, state):
        torch.set_rng_state(state)


def capture_on_cpu(monkeypatch: Any, recorder: Any) -> Any:
    """Trainers that are built from now on capture by ``recorder``."""
    monkeypatch.setattr(captured, "recorder", lambda trainer: recorder)
    return recorder
