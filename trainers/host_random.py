"""The random numbers that are drawn on the CPU."""

import random
from typing import Any

import numpy as np
import torch


class HostRandom:
    """The states of the generators that a replay does not draw from."""

    def __init__(self, device: torch.device) -> None:
        self.with_torch = device.type != "cpu"
        self.states = self._now()

    def _now(self) -> tuple[Any, ...]:
        _, keys, *place = np.random.get_state(legacy=True)  # noqa: NPY002
        torchs = bytes(torch.get_rng_state().numpy()) if self.with_torch else b""
        return random.getstate(), (keys.tobytes(), *place), torchs  # type: ignore[union-attr]

    def was_drawn_from(self) -> bool:
        return self._now() != self.states

    def restore(self) -> None:
        pythons, (keys, *place), torchs = self.states
        random.setstate(pythons)
        np.random.set_state(("MT19937", np.frombuffer(keys, dtype=np.uint32), *place))  # noqa: NPY002
        if torchs:
            torch.set_rng_state(torch.frombuffer(bytearray(torchs), dtype=torch.uint8))
