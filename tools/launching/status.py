"""Where a grid stands: which runs are done, going on, waiting or failed, and how a person sees it."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from tools.launching.estimate import Estimate, duration, recorded_seconds
from tools.launching.run import Run

SECONDS_BETWEEN = 1.0
SECONDS_BETWEEN_LINES = 60.0  # where there is no terminal


def name_of(run: Run) -> str:
    """A run in a few words."""
    words = [run.step, f"{run.trainer}/{run.config}", run.dataset]
    words += [] if run.step == "zeroshot" else [f"{run.shots} shots"]
    words += [f"seed {run.seed}"]
    words += [run.remark] if run.remark else []
    return " ".join(words)


class Status:
    """The state of every run of a grid.

    Attributes:
        waiting: runs not started yet, in order.
        running: what goes on, with a function that says how far it is.
        done: folders of finished runs.
        failed: runs that failed, with the reason.
    """

    def __init__(self, runs: list[Run], done: set[str], estimate: Estimate, at_a_time: int) -> None:
        self.waiting = [run for run in runs if run.folder not in done]
        self.running: dict[Run, Callable[[], str]] = {}
        self.done = set(done)
        self.failed: dict[Run, str] = {}
        self._total = len(runs)
        self._estimate, self._at_a_time = estimate, at_a_time
        self._started: dict[Run, float] = {}
        self._live = sys.stdout.isatty()
        self._lines_drawn = 0
        self._drawn_at = 0.0 if self._live else time.monotonic()

    def fail(self, run: Run, reason: str) -> None:
        """`run` is given up, and with it what was to test its model."""
        self.running.pop(run, None)
        self.failed[run] = reason
        self._say(f"FAILED   {name_of(run)}: {reason}")
        for other in [other for other in self.waiting if other.tests == run.folder]:
            self.waiting.remove(other)
            self.fail(other, f"not started, its model has failed ({run.folder})")

    def start(self, run: Run, progress: Callable[[], str]) -> None:
        """`run` has been started; `progress` says how far it is."""
        if run in self.waiting:
            self.waiting.remove(run)
        self.running[run] = progress
        self._started[run] = time.monotonic()

    def finish(self, run: Run, record: dict[str, Any]) -> None:
        """`run` has ended well."""
        self.running.pop(run, None)
        if run in self.waiting:
            self.waiting.remove(run)
        self.done.add(run.folder)
        started = self._started.get(run)
        self._estimate.add(record, None if started is None else time.monotonic() - started)
        took = duration(recorded_seconds(record))
        result = f"{record['metrics']['accuracy']:.1f} %" if record["metrics"] else "not tested"
        self._say(f"[{len(self.done)}/{self._total}] {name_of(run)}: {result}, {took}")

    def again(self, run: Run, reason: str) -> None:
        """`run` has crashed and is started once more."""
        self._say(f"CRASHED  {name_of(run)}: {reason}; once more")

    def ready(self) -> Run | None:
        """The next run whose model, where it needs one, is there."""
        return next((run for run in self.waiting if run.tests is None or run.tests in self.done), None)

    def show(self) -> None:
        """Show the live table on a terminal; elsewhere print a line a minute, and one for each run that goes on."""
        if time.monotonic() - self._drawn_at < (SECONDS_BETWEEN if self._live else SECONDS_BETWEEN_LINES):
            return
        self._drawn_at = time.monotonic()
        left, unknown = self._estimate.total([*self.waiting, *self.running], self._at_a_time)
        counts = f"{len(self.done)} of {self._total} done, {len(self.running)} running"
        counts += f", {len(self.waiting)} waiting" + (f", {len(self.failed)} FAILED" if self.failed else "")
        counts += f", about {duration(left)} left" if left and not unknown else ""
        lines = [counts]
        for run, progress in self.running.items():
            seconds = duration(time.monotonic() - self._started[run])
            lines.append(f"  {seconds:>8}  {name_of(run)}: {progress()}")
        if not self._live:
            print("\n".join(lines), flush=True)
            return
        terminal = shutil.get_terminal_size()
        shown = [line[: terminal.columns - 1] for line in lines[: terminal.lines - 2]]
        self._erase()
        print("\n".join(shown), flush=True)
        self._lines_drawn = len(shown)

    def _say(self, line: str) -> None:
        self._erase()
        print(line, flush=True)
        self._drawn_at = 0.0 if self._live else self._drawn_at

    def _erase(self) -> None:
        if self._lines_drawn:
            print(f"\x1b[{self._lines_drawn}A\x1b[J", end="")
            self._lines_drawn = 0
