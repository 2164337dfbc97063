"""Every method against one, paired by data set, seed and shots: a table of differences and p-values."""

from collections.abc import Iterator

from tools.reporting.collect import Result
from tools.reporting.selection import TOY, TOY_NOTE, of_protocol, ordered_methods
from tools.reporting.stats import FEWEST, compare, harmonic_mean
from tools.reporting.tables import Row, Table, Value

Measure = dict[tuple[str, str, int, int], float]  # by method, data set, shots, seed


def comparison(backbone: str, results: list[Result], reference: str | None) -> Iterator[Table]:
    """Every method against one, paired by data set, seed and shots.

    Args:
        reference: the method to compare with; None for CoOp or, without it, the first one.

    Raises:
        ValueError: there is no such method.
    """
    methods = [method for method, _ in ordered_methods(results)]
    if reference is not None and reference not in methods:
        raise ValueError(f"--reference {reference!r} is not among the methods: {', '.join(methods)}")
    reference = reference or ("CoOp" if "CoOp" in methods else methods[0])
    rows = []
    for section, found in _measures(results):
        for method in methods:
            pairs = _pairs(found, method, reference)
            if method == reference or not pairs:
                continue
            said = compare(*zip(*pairs))
            values = (
                Value(said.difference, said.half_width),
                Value(said.pairs, digits=0),
                Value(said.p_pairs, digits=4),
                Value(said.groups, digits=0),
                Value(said.p_groups, digits=4),
            )
            rows.append(Row(section, f"{method} − {reference}", values))
    columns = ("difference", "pairs", "p of pairs", "data sets", "p of data sets")
    if rows:
        yield Table(
            "comparison",
            f"Paired comparison with {reference}, {backbone}",
            "measure",
            columns,
            tuple(rows),
            (
                "mean difference in points ± its 95 % interval (paired t); pairs share data set, seed and shots",
                "p: Wilcoxon's signed-rank test, two-sided, over pairs and over data sets (seeds and shots averaged); "
                f"not corrected for the number of comparisons; none for fewer than {FEWEST}, which cannot reach 0.05",
                *([TOY_NOTE] if backbone in TOY else []),
            ),
            unranked=frozenset(columns),
        )


def _measures(results: list[Result]) -> Iterator[tuple[str, Measure]]:
    """What methods are compared on, by (method, data set, shots, seed); methods that learn nothing with any."""
    seeds = {result.seed for result in results if result.learns}
    by_protocol: dict[str, Measure] = {}
    for protocol in ("fewshot", "base", "new", "transfer"):
        chosen = of_protocol(results, protocol)
        shots = {result.shots for result in chosen if result.learns}
        found: Measure = {}
        for result in chosen:
            for seed in [result.seed] if result.learns else seeds:
                for number in [result.shots] if result.learns else shots:
                    target = f"{result.source} to {result.dataset}" if result.source else result.dataset
                    found[result.method, target, number, seed] = result.accuracy
        by_protocol[protocol] = found
    base, new = by_protocol["base"], by_protocol["new"]
    harmonic = {key: harmonic_mean(base[key], new[key]) for key in base if key in new}
    yield "few-shot", by_protocol["fewshot"]
    yield "base classes", base
    yield "new classes", new
    yield "H", harmonic
    yield "transfer", by_protocol["transfer"]


def _pairs(found: Measure, method: str, reference: str) -> list[tuple[float, float, str]]:
    return [
        (value, found[reference, dataset, shots, seed], dataset)
        for (name, dataset, shots, seed), value in sorted(found.items())
        if name == method and (reference, dataset, shots, seed) in found
    ]
