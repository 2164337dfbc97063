"""How far probabilities can be trusted: tables of their figures, reliability charts, and images of other classes.

docs/probabilities.md defines them. Records of older versions have none, and stand in none of these.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools.reporting.averages import AVERAGE, Scope, figures_of, notes_of, scope_of
from tools.reporting.charts import Reliability, ReliabilityChart
from tools.reporting.result import Result
from tools.reporting.selection import (
    Group,
    among_all_classes,
    few_shot_results,
    in_words,
    labels,
    of_protocol,
    ordered_datasets,
    ordered_methods,
    with_shots,
)
from tools.reporting.tables import Row, Table, Value

FITTED = "temperature"  # its part of a record's metrics, beside "probabilities"


class Column(NamedTuple):
    """A figure: its part of a record's metrics, its name there, decimal digits, and whether less is better."""

    name: str
    part: str
    key: str
    digits: int = 2
    less: bool = True


COLUMNS = (
    Column("macro accuracy", "", "macro_accuracy", less=False),
    Column("ECE", "probabilities", "ece"),
    Column("NLL", "probabilities", "nll", 3),
    Column("Brier", "probabilities", "brier", 3),
    Column("T", FITTED, "value", 3),
    Column("ECE at T", FITTED, "ece"),
    Column("NLL at T", FITTED, "nll", 3),
    Column("Brier at T", FITTED, "brier", 3),
)
OTHERS = (
    Column("AUROC", "other_images", "auroc", less=False),
    Column("FPR at 95 % recall", "other_images", "fpr95"),
)
#: Which results stand together: the file's ending, and in words.
PARTS = {
    ("fewshot", "all"): ("fewshot", ""),
    ("base2new", "base"): ("base", "base classes"),
    ("base2new", "new"): ("new", "new classes, trained on base classes"),
    ("base2new", "all"): ("all", "all classes, trained on base classes"),
}


def tables(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """The figures of each data set and method, the average first, at most shots."""
    for name, words, shots, chosen in _parts(results):
        said = [
            "ECE in percent, NLL in nats, Brier from 0 to 2, of the softmax of the logits: less is better"
        ]
        if any(_figure(result, COLUMNS[4]) is not None for result in chosen):
            said.append("T: temperature fitted on validation images, never of new classes")
        title = ", ".join(
            filter(None, ("How far probabilities can be trusted", words, in_words(shots), str(group)))
        )
        yield _table(f"probabilities_{name}", title, COLUMNS, group, chosen, spread, said)
    yield from _others(group, results, spread)


def charts(group: Group, results: list[Result], spread: str) -> Iterator[ReliabilityChart]:
    """A panel for each method: accuracy over confidence, of all data sets and seeds together."""
    for name, words, shots, chosen in _parts(results):
        named = labels(chosen)
        panels = {
            named[method]: (
                _pooled([r for r in chosen if r.method == method], "probabilities"),
                _pooled([r for r in chosen if r.method == method], FITTED),
            )
            for method, _ in ordered_methods(chosen)
        }
        title = ", ".join(filter(None, ("Reliability", words, in_words(shots), str(group))))
        yield ReliabilityChart(f"reliability_{name}", title, panels, group.notes(chosen))


def _parts(results: list[Result]) -> Iterator[tuple[str, str, int, list[Result]]]:
    """Results whose records know of probabilities, with the most shots: file's ending, words, shots, results."""
    known = [result for result in results if result.record["metrics"].get("probabilities")]
    for (protocol, subset), (name, words) in PARTS.items():
        for shots, chosen in list(with_shots(_of(known, protocol, subset)))[-1:]:
            yield name, words, shots, chosen


def _of(results: list[Result], protocol: str, subset: str) -> list[Result]:
    if protocol == "fewshot":
        return few_shot_results(results)
    if subset == "all":
        return among_all_classes(results)
    return [result for result in of_protocol(results, protocol) if result.subset == subset]


def _figure(result: Result, column: Column) -> float | None:
    metrics = result.record["metrics"]
    return (metrics.get(column.part) or {} if column.part else metrics).get(column.key)


def _table(
    name: str,
    title: str,
    columns: tuple[Column, ...],
    group: Group,
    results: list[Result],
    spread: str,
    said: list[str],
) -> Table:
    """Without the columns of which nothing is known."""
    datasets, named = ordered_datasets(results), labels(results)
    scope = scope_of(results, datasets, spread)
    columns = tuple(c for c in columns if any(_figure(result, c) is not None for result in results))
    rows = []
    for section in (AVERAGE, *datasets) if len(datasets) > 1 else datasets:
        for method, learns in ordered_methods(results):
            of_method = [result for result in results if result.method == method]
            values = tuple(_value(scope, of_method, learns, section, column) for column in columns)
            rows.append(Row(section, named[method], values))
    return Table(
        name,
        title,
        "data set",
        tuple(column.name for column in columns),
        tuple(rows),
        notes_of(group, scope, results, *said),
        lower_is_better=frozenset(column.name for column in columns if column.less),
        unranked=frozenset(column.name for column in columns if column.key == "value"),
    )


def _value(scope: Scope, results: list[Result], learns: bool, section: str, column: Column) -> Value:
    found = figures_of(results, lambda result: _figure(result, column))
    if not found:
        return Value()
    value = (
        scope.average(found, learns)
        if section == AVERAGE
        else scope.of_dataset(found.get(section, {}), learns)
    )
    return Value(value.number, value.spread, value.remark, column.digits)


def _others(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """How well images of other classes are told apart: a section for each data set, its classes, and the images."""
    known = [result for result in results if result.record["metrics"].get("other_images")]
    for (protocol, subset), (name, words) in PARTS.items():
        for shots, chosen in with_shots(_of(known, protocol, subset)):
            title = "Images of other classes, told apart by maximum concept matching"
            title = ", ".join(filter(None, (title, words, in_words(shots), str(group))))
            beside = {Path(r.record["metrics"]["other_images"]["folder"]).name for r in chosen}
            said = [f"beside the images in {', '.join(sorted(beside))}", "50 % AUROC is chance"]
            yield _table(f"other_images_{name}_{shots}shots", title, OTHERS, group, chosen, spread, said)


def _pooled(results: list[Result], part: str) -> Reliability:
    """The bins of all results together; none where a result has none."""
    parts: list[Any] = [result.record["metrics"].get(part) for result in results]
    if not all(parts):
        return Reliability((), None)
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for of_result in parts:
        for place, of_bin in enumerate(of_result["reliability"]):
            if of_bin["images"]:
                for i, value in enumerate((1.0, of_bin["confidence"], of_bin["accuracy"])):
                    sums[place][i] += of_bin["images"] * value
    images = sum(n for n, _, _ in sums.values())
    points = tuple((n / images, c / n, a / n) for _, (n, c, a) in sorted(sums.items()))
    return Reliability(points, sum(of_result["ece"] for of_result in parts) / len(parts))
