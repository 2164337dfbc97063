"""Times, memory and the rate of matrix products of the machine that a benchmark runs on."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clip.linear import linear


class Clock:
    """Times on a device that may compute while Python goes on."""

    #: Rows and columns of the matrices whose products are timed.
    matrix_size = {"cpu": 2048, "cuda": 8192}

    def __init__(self, device: str) -> None:
        self.device = device

    def seconds(self, call: Callable[[], Any]) -> float:
        self._wait()
        start = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def matrix_rate(self, precision: str) -> float:
        """Operations a second of a large matrix product in the precision of the towers, the best of ten."""
        size = self.matrix_size[self.device]
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision, torch.float16)
        a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * size**3 / min(self.seconds(lambda: torch.mm(a, b, out=out)) for _ in range(10))

    def layer_rate(self, precision: str) -> float:
        """As ``matrix_rate``, of the product that the towers' layers take: on a CPU often oneDNN's."""
        size = self.matrix_size[self.device]
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision, torch.float16)
        a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        return 2 * size**3 / min(self.seconds(lambda: linear(a, b)) for _ in range(10))

    def peak_memory(self) -> float:
        """GiB of this process; on a GPU of its tensors."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        about = Path("/proc/self/status")
        for line in about.read_text().splitlines() if about.is_file() else []:
            if line.startswith(
                "VmHWM:"
            ):  # ru_maxrss of a new process begins with that of the one that started it
                return int(line.split()[1]) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def machine(self) -> str:
        if self.device == "cuda":
            return torch.cuda.get_device_name()
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU"
        )
        return f"{model}, {os.cpu_count()} cores"
