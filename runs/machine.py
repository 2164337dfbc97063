"""What a run ran on: the versions of its packages, the hardware, the memory that it took."""

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from runs import ROOT

PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scikit-learn")


def versions() -> dict[str, str | None]:
    """Of Python, of the checkout (its commit) and of the packages; None where there is none."""
    import dassl

    versions: dict[str, str | None] = {"python": platform.python_version(), "commit": _commit()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    versions["dassl"] = getattr(dassl, "__version__", None)
    return versions


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware() -> dict[str, Any]:
    """The system, its processors and GPUs, and how many threads and processes the run has."""
    import torch

    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": torch.distributed.get_world_size() if together else 1,
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_memory(trainer: Any) -> dict[str, Any]:
    """Bytes: allocated by tensors on a GPU, else resident in the process, libraries included."""
    import torch

    if trainer.device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(trainer.device), "of": "cuda"}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": resident if sys.platform == "darwin" else resident * 1024, "of": "process"}
