"""Averages over seeds and data sets that say what is missing instead of averaging over what happens to be there."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tools.reporting.collect import Result
from tools.reporting.stats import harmonic_mean, spread
from tools.reporting.tables import Value


@dataclass(frozen=True)
class Scope:
    """What a complete table holds: everything that any of its methods has.

    A method that learns nothing needs one seed, whatever the others have.
    """

    datasets: tuple[str, ...]
    seeds: frozenset[int]
    spread: str = "std"

    def of_dataset(self, by_seed: dict[int, float], learns: bool = True) -> Value:
        """Mean over seeds; with the remark "n/m seeds" where some are missing."""
        if not by_seed:
            return Value()
        missing = learns and self.seeds - by_seed.keys()
        remark = f"{len(by_seed)}/{len(self.seeds)} seeds" if missing else ""
        return self._value(list(by_seed.values()), remark)

    def average(self, by_dataset: dict[str, dict[int, float]], learns: bool = True) -> Value:
        """Mean over data sets, its spread over the seeds' averages; no number unless all are there."""
        seeds = self._seeds(by_dataset, learns)
        there = sum(len(seeds) > 0 and seeds <= by_dataset.get(name, {}).keys() for name in self.datasets)
        if there < len(self.datasets):
            return Value(remark=f"incomplete, {there}/{len(self.datasets)}")
        averages = [
            sum(by_dataset[name][seed] for name in self.datasets) / len(self.datasets)
            for seed in sorted(seeds)
        ]
        return self._value(averages)

    def harmonic(
        self,
        base: dict[str, dict[int, float]],
        new: dict[str, dict[int, float]],
        learns: bool,
        datasets: Iterable[str],
    ) -> Value:
        """H of the mean base and the mean new accuracy over `datasets` and seeds, its spread that of the seeds' H.

        The mean of the data sets' H would be another number; the field takes H of the averages.
        """
        names = list(datasets)
        seeds = self._seeds({**base, **new}, learns)
        whole = [seeds <= part.get(name, {}).keys() for part in (base, new) for name in names]
        if not seeds or not all(whole):
            return Value()
        per_seed = [
            tuple(sum(part[name][seed] for name in names) / len(names) for part in (base, new))
            for seed in sorted(seeds)
        ]
        means = [sum(column) / len(per_seed) for column in zip(*per_seed)]
        return Value(harmonic_mean(*means), spread([harmonic_mean(*pair) for pair in per_seed], self.spread))

    def _seeds(self, by_dataset: dict[str, dict[int, float]], learns: bool) -> frozenset[int]:
        if learns:
            return self.seeds
        common = [frozenset(by_seed) for by_seed in by_dataset.values()]
        return frozenset.intersection(*common) if common else frozenset()

    def _value(self, numbers: list[float], remark: str = "") -> Value:
        return Value(sum(numbers) / len(numbers), spread(numbers, self.spread), remark)


def scope_of(results: Iterable[Result], datasets: tuple[str, ...], spread_kind: str) -> Scope:
    """The scope of a table of `results`."""
    listed = list(results)
    seeds = {result.seed for result in listed if result.learns} or {result.seed for result in listed}
    return Scope(datasets, frozenset(seeds), spread_kind)


def accuracies(results: Iterable[Result]) -> dict[str, dict[int, float]]:
    """Accuracy by data set and seed."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for result in results:
        found[result.dataset][result.seed] = result.accuracy
    return dict(found)
