"""Runs of a grid on this machine: a queue over the GPUs, or several at a time on the CPU."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runs.errors import one_line
from tools.launching.process import WRONG_INPUT, RunProcess
from tools.launching.run import Run
from tools.launching.state import finished
from tools.launching.status import Status

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SECONDS_BETWEEN = 0.1


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, or else those that nvidia-smi lists."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False)
    return listed.stdout.split() if listed.returncode == 0 else []


def slots(gpus: list[str], jobs: int | None, threads: int | None) -> list[dict[str, str]]:
    """What distinguishes the processes that run side by side: the environment of each, with its GPU and threads.

    Args:
        gpus: empty for the CPU.
        jobs: processes on each GPU (1), or on the CPU (as many as there are CPUs, 16 at most).
        threads: of each process; an equal share of the CPUs.
    """
    if gpus:
        devices = [gpu for _ in range(jobs or 1) for gpu in gpus]
    else:
        devices = [""] * (jobs or min(max(1, cpu_count() // (threads or 1)), 16))
    share = str(threads or max(1, cpu_count() // len(devices)))
    return [{"CUDA_VISIBLE_DEVICES": device, **dict.fromkeys(THREADS, share)} for device in devices]


@dataclass
class Local:
    """Runs at most one process for each slot at a time; a crashed run is tried once more.

    Attributes:
        data, output: the folders of the data sets and of all results.
        slots: the environment of each process that runs side by side.
    """

    data: Path
    output: Path
    slots: list[dict[str, str]]

    @property
    def at_a_time(self) -> int:
        """Runs that go on together."""
        return len(self.slots)

    def execute(self, status: Status) -> None:
        """Work until nothing waits. Ctrl-C stops what runs; everything can be continued."""
        free = list(self.slots)
        busy: list[tuple[RunProcess, dict[str, str]]] = []
        tried: set[Run] = set()
        try:
            while status.waiting or busy:
                for process, slot in list(busy):
                    if (code := process.poll()) is None:
                        continue
                    busy.remove((process, slot))
                    free.append(slot)
                    self._ended(process, code, status, tried)
                self._start(free, busy, status)
                status.show()
                time.sleep(SECONDS_BETWEEN)
        except BaseException:
            for process, _ in busy:
                process.interrupt()
            for process, _ in busy:
                process.stop()
            raise

    def _start(
        self, free: list[dict[str, str]], busy: list[tuple[RunProcess, dict[str, str]]], status: Status
    ) -> None:
        elsewhere: list[Run] = []
        while free and (run := status.ready()):
            try:
                record = finished(run, self.output)  # meanwhile, by another launcher
                if record:
                    status.finish(run, record)
                    continue
                process = RunProcess(run, self.data, self.output, free[0])
            except BlockingIOError:
                status.waiting.remove(run)
                elsewhere.append(run)  # another launcher is at it
            except (ValueError, OSError) as error:
                status.waiting.remove(run)
                status.fail(run, one_line(error))
            else:
                status.start(run, process.progress)
                busy.append((process, free.pop(0)))
        status.waiting += elsewhere

    def _ended(self, process: RunProcess, code: int, status: Status, tried: set[Run]) -> None:
        run = process.run
        if code == 0:
            record = finished(run, self.output)
            assert record is not None
            status.finish(run, record)
        elif code != WRONG_INPUT and run not in tried:
            tried.add(run)
            status.again(run, process.reason())
            status.running.pop(run)
            status.waiting.insert(0, run)
        else:
            status.fail(run, process.reason())
