"""How long a run will take, from the records of earlier ones."""

from collections.abc import Iterable
from statistics import median
from typing import Any

from runs import shipped
from tools.launching.run import Run

# Loading the libraries, before a record's clock starts; measured anew with every run that ends here.
STARTUP_SECONDS = 5.0


class Estimate:
    """Knows the times of finished runs.

    The seconds of a new run are the median of the earlier ones most like it: of the same kind (training or test)
    and method, on the same data set with the same shots, or else on the same data set, or else on any.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        self._times: dict[tuple[Any, ...], list[float]] = {}
        self._startups: list[float] = []
        for record in records:
            self.add(record)

    def add(self, record: dict[str, Any], wall_seconds: float | None = None) -> None:
        """Take in a finished run, and how long its process lived where that is known."""
        seconds = recorded_seconds(record)
        if wall_seconds is not None:
            self._startups.append(wall_seconds - seconds)
        for key in _keys(record["kind"] == "eval", record["trainer"], record["dataset"], record["shots"]):
            self._times.setdefault(key, []).append(seconds)

    def seconds(self, run: Run) -> float | None:
        """Seconds that `run` will take; None where no earlier run is like it."""
        for key in _keys(run.evaluates, run.trainer, shipped.registered_name(run.dataset), run.shots):
            if key in self._times:
                return median(self._times[key]) + median(self._startups or [STARTUP_SECONDS])
        return None

    def total(self, runs: Iterable[Run], at_a_time: int) -> tuple[float, int]:
        """Seconds for all `runs`, and how many of them are not in it because nothing is known of them."""
        times = [self.seconds(run) for run in runs]
        known = [seconds for seconds in times if seconds is not None]
        longest = max(known, default=0.0)
        return max(sum(known) / at_a_time, longest), len(times) - len(known)


def recorded_seconds(record: dict[str, Any]) -> float:
    """The seconds of a run, from its settings to its result."""
    return record["time"]["setup_seconds"] + record["time"]["run_seconds"]


def _keys(evaluates: bool, trainer: str, dataset: str, shots: int) -> list[tuple[Any, ...]]:
    return [(evaluates, trainer, dataset, shots), (evaluates, trainer, dataset), (evaluates, trainer)]


def duration(seconds: float) -> str:
    """Seconds in words: "45 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
