"""Averages over seeds and data sets that say what is missing instead of averaging over what happens to be there."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tools.reporting.result import Result
from tools.reporting.selection import Group
from tools.reporting.stats import SPREADS, harmonic_mean, spread
from tools.reporting.tables import Value

AVERAGE = "Average"  # a section of a table, a panel of a figure
BySeed = dict[int, float]


@dataclass(frozen=True)
class Scope:
    """What a complete table holds: everything that any of its methods has.

    A method that learns nothing has the same result with every seed: one, whichever it is, is all there is to have.
    """

    datasets: tuple[str, ...]
    seeds: frozenset[int]
    spread: str = "std"

    def of_dataset(self, by_seed: BySeed, learns: bool = True) -> Value:
        """Mean over seeds; with the remark "n/m seeds" where some are missing."""
        if not by_seed:
            return Value()
        by_seed = by_seed if learns else self._of_any_seed(by_seed)
        missing = learns and self.seeds - by_seed.keys()
        remark = f"{len(by_seed)}/{len(self.seeds)} seeds" if missing else ""
        return self._value(list(by_seed.values()), remark)

    def average(self, by_dataset: dict[str, BySeed], learns: bool = True) -> Value:
        """Mean over data sets, its spread over the seeds' averages; no number unless all are there."""
        averages = self._averages(by_dataset, learns, self.datasets)
        if not averages:
            there = sum(bool(self._whole(by_dataset.get(name, {}), learns)) for name in self.datasets)
            return Value(remark=f"incomplete, {there}/{len(self.datasets)}")
        return self._value(averages)

    def harmonic(
        self,
        base: dict[str, BySeed],
        new: dict[str, BySeed],
        learns: bool,
        datasets: Iterable[str],
    ) -> Value:
        """H of the mean base and the mean new accuracy over `datasets` and seeds, its spread that of the seeds' H.

        The mean of the data sets' H would be another number; the field takes H of the averages.
        """
        names = tuple(datasets)
        pairs = list(zip(self._averages(base, learns, names), self._averages(new, learns, names)))
        if not pairs:
            return Value()
        means = [sum(column) / len(pairs) for column in zip(*pairs)]
        return Value(harmonic_mean(*means), spread([harmonic_mean(*pair) for pair in pairs], self.spread))

    def _averages(self, by_dataset: dict[str, BySeed], learns: bool, names: tuple[str, ...]) -> list[float]:
        """The mean over data sets of each seed; none unless all of both are there."""
        whole = [self._whole(by_dataset.get(name, {}), learns) for name in names]
        return [sum(of_seed) / len(of_seed) for of_seed in zip(*whole)] if all(whole) else []

    def _whole(self, by_seed: BySeed, learns: bool) -> list[float]:
        """What a data set has for every seed, in their order; none where one is missing."""
        if not learns:
            return list(self._of_any_seed(by_seed).values())
        return [by_seed[seed] for seed in sorted(self.seeds)] if self.seeds <= by_seed.keys() else []

    @staticmethod
    def _of_any_seed(by_seed: BySeed) -> BySeed:
        return {0: sum(by_seed.values()) / len(by_seed)} if by_seed else {}

    def _value(self, numbers: list[float], remark: str = "") -> Value:
        return Value(sum(numbers) / len(numbers), spread(numbers, self.spread), remark)


def scope_of(results: Iterable[Result], datasets: tuple[str, ...], spread_kind: str) -> Scope:
    """The scope of a table of `results`."""
    return Scope(datasets, frozenset(result.seed for result in results if result.learns), spread_kind)


def accuracies(results: Iterable[Result]) -> dict[str, BySeed]:
    """Accuracy by data set and seed."""
    return figures_of(results, lambda result: result.accuracy)


def figures_of(results: Iterable[Result], figure: Callable[[Result], float | None]) -> dict[str, BySeed]:
    """A figure of each result by data set and seed, of those that have it."""
    found: dict[str, BySeed] = defaultdict(dict)
    for result in results:
        if (value := figure(result)) is not None:
            found[result.dataset][result.seed] = value
    return dict(found)


def notes_of(group: Group, scope: Scope, results: list[Result], *more: str) -> tuple[str, ...]:
    """What stands below every table."""
    seeds = sorted(scope.seeds)
    said = "accuracy in percent" + (f"; mean of {len(seeds)} seed{'s' * (len(seeds) > 1)}" if seeds else "")
    said += f" ± {SPREADS[scope.spread]}" if len(seeds) > 1 else ""
    return (said, *more, *group.notes(results))
