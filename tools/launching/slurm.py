"""Runs of a grid on a SLURM cluster, through submitit: an array of jobs, each a training and the tests of its model.

A job that is pre-empted or runs out of time is queued again and continues where it was.
"""

import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import ROOT
from tools.launching.local import THREADS
from tools.launching.process import WRONG_INPUT, RunProcess
from tools.launching.run import Run
from tools.launching.state import finished
from tools.launching.status import Status

SECONDS_BETWEEN = 2.0
SECONDS_FOR_A_FOLDER = 5.0
SECONDS_OF_NETWORK_DELAY = 10.0
# What SLURM sends to all processes of a job before it takes its place away.
WARNINGS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT)


@dataclass
class Job:
    """What one job does, on its node: runs that are not finished, one after the other."""

    runs: list[Run]
    data: Path
    output: Path
    threads: int

    def __call__(self) -> dict[str, str]:
        """Returns why runs failed, by their folders."""
        failed: dict[str, str] = {}
        for run in self.runs:
            try:
                if run.tests in failed or finished(run, self.output):
                    continue
                reason = self._run(run)
            except ValueError as error:  # something else is in its folder
                reason = str(error)
            if reason:
                failed[run.folder] = reason
        return failed

    def checkpoint(self) -> Any:
        """Called by submitit on a warning of SLURM: the same job once more.

        The run at work ends with this process, and continues from its own resume file.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self, run: Run) -> str:
        """Run to the end, after a crash once more; returns why it failed or ""."""
        environment = dict.fromkeys(THREADS, str(self.threads))
        for attempt in (1, 2):
            try:
                process = self._start(run, environment)
            except OSError as error:
                return f"{error.filename}: {error.strerror}"
            code = process.wait()
            if code == 0:
                return ""
            print(f"{run.folder}: exit code {code}: {process.reason()}", flush=True)
            if code == WRONG_INPUT or attempt == 2:
                break
        return process.reason()

    def _start(self, run: Run, environment: dict[str, str]) -> RunProcess:
        while True:
            try:
                return RunProcess(run, self.data, self.output, environment, WARNINGS)
            except BlockingIOError:
                time.sleep(SECONDS_FOR_A_FOLDER)  # the process of the job's earlier life is on its way out


@dataclass
class Slurm:
    """Submits, waits and tells what happens.

    Attributes:
        data, output: the folders of the data sets and of all results, seen alike by all nodes.
        partition: None for the cluster's default.
        hours: time limit of a job; a job that exceeds it is queued again, three times.
        memory: of a job in GB.
        gpus, threads: of a job; 0 GPUs for the CPU.
        at_a_time: jobs that may run together.
    """

    data: Path
    output: Path
    partition: str | None
    hours: float
    memory: int
    gpus: int
    threads: int
    at_a_time: int

    def execute(self, status: Status) -> None:
        """Work until nothing waits. Ctrl-C cancels the jobs; everything can be continued."""
        try:
            import submitit
        except ImportError:
            raise ValueError(
                "--executor slurm needs submitit: pip install submitit, or this checkout with [slurm]"
            ) from None
        logs = self.output / "slurm"
        try:
            executor = submitit.SlurmExecutor(folder=logs)
        except RuntimeError as error:
            raise ValueError(f"--executor slurm: {error}") from None
        options = {"partition": self.partition} if self.partition else {}
        if self.gpus:
            options["gpus_per_node"] = str(self.gpus)
        executor.update_parameters(
            job_name="mmprompt",
            time=max(1, round(self.hours * 60)),
            mem=f"{self.memory}GB",
            cpus_per_task=self.threads,
            array_parallelism=self.at_a_time,
            signal_delay_s=60,
            additional_parameters={"requeue": True},
            setup=[f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"],
            **options,
        )
        chains = list(self._chains(status.waiting))
        if not chains:
            return
        try:
            with executor.batch():
                jobs = [executor.submit(chain) for chain in chains]
        except submitit.core.utils.FailedJobError as error:
            raise ValueError(f"--executor slurm: {' '.join(str(error).split())}") from None
        print(
            f"{len(jobs)} job{'s' * (len(jobs) != 1)} submitted ({jobs[0].job_id} ...); their logs: {logs}",
            flush=True,
        )
        left = dict(zip(jobs, chains))
        try:
            while left:
                queued = _queued()
                for job in list(left):
                    self._look_at(left[job], status, queued.get(job.job_id) == "RUNNING", job.job_id)
                    result = job.paths.result_pickle
                    if result.exists() or (job.job_id not in queued and not _appears(result)):
                        self._ended(job, left.pop(job), status)
                status.show()
                time.sleep(SECONDS_BETWEEN)
        except BaseException:
            for job in left:
                job.cancel(check=False)
            raise

    def _chains(self, runs: list[Run]) -> Iterator[Job]:
        """One job for each model: its training, if that is to be done, and its tests."""
        chains: dict[str, list[Run]] = {}
        for run in runs:
            chains.setdefault(run.tests or run.folder, []).append(run)
        for chain in chains.values():
            yield Job(chain, self.data, self.output, self.threads)

    def _look_at(self, chain: Job, status: Status, running: bool, job: str) -> None:
        """Tell of finished runs, and of the one at work."""
        for run in self._left(chain, status):
            if running and run not in status.running:
                status.start(run, lambda: f"job {job}")
            elif not running and run in status.running:  # queued again
                status.running.pop(run)
                status.waiting.append(run)
            return

    def _left(self, chain: Job, status: Status) -> Iterator[Run]:
        """The runs of a job that have not ended, after telling of those that have."""
        for run in chain.runs:
            if run.folder not in status.done and run not in status.failed:
                if record := self._finished(run):
                    status.finish(run, record)
                else:
                    yield run

    def _finished(self, run: Run) -> dict[str, Any] | None:
        try:
            return finished(run, self.output)
        except ValueError:  # something else is in its folder: the job says so
            return None

    def _ended(self, job: Any, chain: Job, status: Status) -> None:
        """Tell what became of the runs of a job that is not in the queue any more."""
        failed: dict[str, str] = {}
        unknown = f"job {job.job_id} ended without a result"
        if job.paths.result_pickle.exists():
            exception = job.exception()
            failed = job.result() if exception is None else {}
            unknown = str(exception).strip().splitlines()[-1] if exception else unknown
        for run in self._left(chain, status):
            if run in status.waiting:
                status.waiting.remove(run)
            status.fail(run, f"{failed.get(run.folder, unknown)} (log: {job.paths.stderr})")


def _queued() -> dict[str, str]:
    """The state of one's own jobs that have not ended, by their ids; unlike sacct it needs no accounting."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise OSError(f"squeue: {' '.join(listed.stderr.split())}")
    return dict(line.split() for line in listed.stdout.splitlines())


def _appears(path: Path) -> bool:
    """Whether a file of another machine appears within the time that network file systems take."""
    end = time.monotonic() + SECONDS_OF_NETWORK_DELAY
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.2)
    return path.exists()
