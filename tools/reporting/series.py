"""Accuracy over something that a protocol varies (shots, context tokens, epochs), as a table and as lines."""

from collections.abc import Callable

from tools.reporting.averages import AVERAGE, Scope, accuracies, notes_of, scope_of
from tools.reporting.charts import Line
from tools.reporting.result import Result
from tools.reporting.selection import Group, labels, ordered_datasets, ordered_methods
from tools.reporting.tables import Row, Table, Value


def accuracy_over(
    results: list[Result], place: Callable[[Result], int], spread: str
) -> tuple[Scope, list[int], dict[tuple[str, str, int], Value]]:
    """Accuracy over something: values by (data set or "Average", method, place), for a table or curves."""
    datasets = ordered_datasets(results)
    # A place that only some data sets have (ten epochs here, twenty there) has no average over all of them.
    scope = scope_of(results, datasets, spread)
    places = sorted({place(result) for result in results})
    values: dict[tuple[str, str, int], Value] = {}
    for method, learns in ordered_methods(results):
        for at in places:
            here = accuracies(r for r in results if r.method == method and place(r) == at)
            if here:
                values[AVERAGE, method, at] = scope.average(here, learns)
            for dataset, by_seed in here.items():
                values[dataset, method, at] = scope.of_dataset(by_seed, learns)
    return scope, places, values


def table_over(
    name: str,
    title: str,
    unit: str,
    place: Callable[[Result], int],
    group: Group,
    results: list[Result],
    spread: str,
) -> Table:
    """A row for each data set and method, the average first; a column for each place, which is counted in `unit`."""
    scope, places, values = accuracy_over(results, place, spread)
    named = labels(results)
    rows = [
        Row(section, named[method], tuple(values.get((section, method, at), Value()) for at in places))
        for section in (AVERAGE, *scope.datasets)
        for method, _ in ordered_methods(results)
    ]
    columns = tuple(f"{at} {unit}{'s' * (at != 1)}" for at in places)
    return Table(name, title, "data set", columns, tuple(rows), notes_of(group, scope, results))


def lines_over(
    results: list[Result], place: Callable[[Result], int], spread: str, subset: str = ""
) -> dict[str, list[Line]]:
    """The lines of each data set, and their average first where there is more than one."""
    if not results:
        return {}
    scope, places, values = accuracy_over(results, place, spread)
    names = (AVERAGE, *scope.datasets) if len(scope.datasets) > 1 else scope.datasets
    named = labels(results)
    return {
        name: [
            Line(
                f"{named[method]}, {subset}" if subset else named[method],
                method,
                {at: values[name, method, at] for at in places if (name, method, at) in values},
                dashed=subset == "new",
            )
            for method, _ in ordered_methods(results)
        ]
        for name in names
    }
