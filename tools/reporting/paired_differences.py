"""Every method against one, paired by data set, seed and shots: a table of differences and p-values."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from tools.reporting.result import Result
from tools.reporting.selection import Group, labels, ordered_methods
from tools.reporting.stats import (
    FEWEST_FOR_INTERVAL,
    FEWEST_FOR_P,
    PairedDifference,
    holm,
    paired_difference,
)
from tools.reporting.tables import Row, Table, Value

Measure = dict[tuple[str, str, int, int], float]  # by method, data set, shots, seed
Measures = Callable[[list[Result], str | None], Iterable[tuple[str, Measure]]]  # as in a protocol
REFERENCE = "CoOp"


def paired_differences(
    group: Group, results: list[Result], reference: str | None, measures: Iterable[Measures]
) -> Iterator[Table]:
    """Every method that learns against one, paired by data set, seed and shots.

    What learns nothing sees no shots, and so has no pair; as the reference it is what all others are compared with.

    Args:
        reference: the method to compare with, by its name or its trainer's; None for CoOp or, without it, the first.
        measures: on what methods are compared.

    Raises:
        ValueError: there is no such method, or several.
    """
    learns = dict(ordered_methods(results))
    named = labels(results)
    chosen = _reference(reference, results, named, learns)
    if chosen is None:
        return
    rows = []
    constant = None if learns[chosen] else chosen
    for section, found in (named for of in measures for named in of(results, constant)):
        said: dict[str, PairedDifference] = {}
        for method in learns:
            pairs = _pairs(found, method, chosen)
            if method != chosen and learns[method] and pairs:
                said[method] = paired_difference(*zip(*pairs))
        tested = {method: of.p for method, of in said.items() if of.p is not None}
        corrected = dict(zip(tested, holm(list(tested.values()))))
        for method, of in said.items():
            values = (
                Value(of.difference, of.half_width),
                Value(tested.get(method), digits=4),
                Value(corrected.get(method), digits=4),
                Value(of.datasets, digits=0),
                Value(of.pairs, digits=0),
            )
            rows.append(Row(section, named[method], values))
    columns = ("difference", "p", "p, Holm", "data sets", "pairs")
    if rows:
        yield Table(
            "comparison",
            f"Paired comparison with {named[chosen]}, {group}",
            "measure",
            columns,
            tuple(rows),
            (
                f"difference: of the method − {named[chosen]}, in points; data sets are the unit: the mean over them "
                "of each one's mean difference, ± its 95 % interval by Student's t, none for fewer than "
                f"{FEWEST_FOR_INTERVAL} data sets",
                "p: Wilcoxon's signed-rank test over data sets, two-sided, none for fewer than "
                f"{FEWEST_FOR_P} of them, which cannot reach 0.05; Holm: corrected for the methods of the measure",
                "pairs share data set, seed and shots"
                + ("" if learns[chosen] else f"; {named[chosen]} learns nothing, of no shots and any seed"),
                *group.notes(results),
            ),
            unranked=frozenset(columns),
        )


def _reference(
    asked: str | None, results: list[Result], named: dict[str, str], learns: dict[str, bool]
) -> str | None:
    """The method to compare with; None where no method learns."""
    if asked is None:
        candidates = [method for method in learns if learns[method]]
        of_coop = [result.method for result in results if result.trainer == REFERENCE]
        return min(of_coop, key=candidates.index) if of_coop else next(iter(candidates), None)
    trainers = {result.method: result.trainer for result in results}
    for name in (lambda method: method, named.get, trainers.get):
        found = [method for method in learns if name(method) == asked]
        if len(found) == 1:
            return found[0]
    several = "is several of" if found else "is not among"
    raise ValueError(
        f"--reference {asked!r} {several} the methods: {', '.join(map(named.__getitem__, learns))}"
    )


def measure(learned: list[Result], constant: str | None, constants: list[Result]) -> Measure:
    """The accuracies of what learns among some results.

    Args:
        constant: a method that learns nothing, whose results among `constants` stand for any seed and number of shots.
    """
    found: Measure = {}
    targets: dict[str, set[str]] = defaultdict(set)
    for result in learned:
        if result.learns:
            target = f"{result.source} to {result.dataset}" if result.source else result.dataset
            targets[result.dataset].add(target)
            found[result.method, target, result.shots, result.seed] = result.accuracy
    settings = {(target, shots, seed) for _, target, shots, seed in found}
    for result in constants if constant else []:
        if result.method == constant:
            for target, shots, seed in settings:
                if target in targets[result.dataset]:
                    found[constant, target, shots, seed] = result.accuracy
    return found


def _pairs(found: Measure, method: str, reference: str) -> list[tuple[float, float, str]]:
    return [
        (value, found[reference, dataset, shots, seed], dataset)
        for (name, dataset, shots, seed), value in sorted(found.items())
        if name == method and (reference, dataset, shots, seed) in found
    ]
