"""Base-to-new generalisation: train on the first half of the classes, test on either half and on both.

base2new/{train_base,test_new,test_all}/<dataset>/shots_16/<Trainer>/<cfg>/seed1
"""

from collections.abc import Iterator
from functools import partial

from tools.launching.cell import Cell
from tools.launching.run import Run
from tools.protocols.few_shot import zeroshot
from tools.protocols.protocol import Protocol, Step, of_each_cell
from tools.reporting import published
from tools.reporting.averages import AVERAGE, figures_of, notes_of, scope_of
from tools.reporting.charts import Chart, Dots, DotsChart
from tools.reporting.paired_differences import Measure, measure
from tools.reporting.result import Result
from tools.reporting.selection import (
    Group,
    among_all_classes,
    in_words,
    labels,
    of_protocol,
    ordered_datasets,
    ordered_methods,
    with_shots,
)
from tools.reporting.stats import harmonic_mean
from tools.reporting.tables import Row, Table
from tools.reporting.tested import Place, Tested


def base_runs(cell: Cell) -> list[Run]:
    """Train on the base classes, test on them."""
    folder = f"base2new/train_base/{cell.place}/seed{cell.seed}"
    return [cell.run("base2new_train", folder, *half(cell, "base"))]


def new_runs(cell: Cell) -> list[Run]:
    """Test the model of `base_runs` on the new classes."""
    model = f"base2new/train_base/{cell.place}/seed{cell.seed}"
    folder = f"base2new/test_new/{cell.place}/seed{cell.seed}"
    return [cell.run("base2new_test", folder, *half(cell, "new"), tests=model)]


def all_runs(cell: Cell) -> list[Run]:
    """Test the model of `base_runs` on all classes at once; what learns nothing, as in few-shot learning."""
    if not cell.learns:
        return zeroshot(cell)
    model = f"base2new/train_base/{cell.place}/seed{cell.seed}"
    folder = f"base2new/test_all/{cell.place}/seed{cell.seed}"
    return [cell.run("base2new_all", folder, *half(cell, "all"), tests=model)]


def half(cell: Cell, subset: str) -> list[object]:
    """The settings of a run on the base, the new or all classes."""
    return ["DATASET.NUM_SHOTS", cell.shots, "DATASET.SUBSAMPLE_CLASSES", subset]


def place(tested: Tested) -> Place | None:
    """What was tested is told by the result's subset; all classes by a model of the base ones alone."""
    return Place() if tested.among_all or (tested.at_home and tested.subset != "all") else None


def tables(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Base and new accuracy and H, average first, of each half told apart and among all classes; for each shots."""
    for table, _ in _tabled(group, results, spread):
        yield table


def _tabled(group: Group, results: list[Result], spread: str) -> Iterator[tuple[Table, list[Result]]]:
    """The tables, and of which results they are."""
    halves = [result for result in of_protocol(results, "base2new") if result.subset != "all"]
    for shots, chosen in with_shots(halves):
        yield _table(group, chosen, spread, shots), chosen
    for shots, chosen in with_shots([result for result in among_all_classes(results) if _halves(result)]):
        yield _table(group, chosen, spread, shots, among_all=True), chosen


def _halves(result: Result) -> dict[str, float]:
    """Accuracy by half of the classes, as far as the result has it; older records lack it for all classes at once."""
    if result.subset != "all":
        return {result.subset: result.accuracy}
    return result.record["metrics"].get("halves") or {}


def _of_half(subset: str, result: Result) -> float | None:
    return _halves(result).get(subset)


def _table(group: Group, chosen: list[Result], spread: str, shots: int, among_all: bool = False) -> Table:
    datasets = ordered_datasets(chosen)
    scope, named = scope_of(chosen, datasets, spread), labels(chosen)
    halves = {
        method: tuple(
            figures_of((r for r in chosen if r.method == method), partial(_of_half, subset))
            for subset in ("base", "new")
        )
        for method, _ in ordered_methods(chosen)
    }
    with_published = not among_all and (group, shots) == (Group(published.BACKBONE), published.SHOTS)
    rows = []
    for method, learns in ordered_methods(chosen):
        base, new = halves[method]
        average = (
            scope.average(base, learns),
            scope.average(new, learns),
            scope.harmonic(base, new, learns, datasets),
        )
        rows.append(Row(AVERAGE, named[method], average))
    if with_published and set(datasets) == {"ImageNet", *published.CROSS_DATASETS}:
        rows += published.rows(AVERAGE, published.BASE_TO_NEW)
    for dataset in datasets:
        for method, learns in ordered_methods(chosen):
            base, new = halves[method]
            values = tuple(scope.of_dataset(of.get(dataset, {}), learns) for of in (base, new))
            rows.append(Row(dataset, named[method], (*values, scope.harmonic(base, new, learns, [dataset]))))
        if with_published:
            rows += published.rows(dataset, published.BASE_TO_NEW_ON.get(dataset, ()))
    unlearned = [named[method] for method, learns in ordered_methods(chosen) if not learns]
    said = ["H is the harmonic mean of the mean base and the mean new accuracy"]
    if among_all:
        said.append("images of the base and of the new classes, each among all classes")
    said += [f"of no shots: {', '.join(unlearned)}"] if unlearned and shots else []
    what = "Base-to-new generalisation" + (" among all classes at once" if among_all else "")
    return Table(
        f"base2new_{'all_' if among_all else ''}{shots}shots",
        f"{what}, {in_words(shots)}, {group}",
        "data set",
        ("Base", "New", "H"),
        tuple(rows),
        notes_of(group, scope, chosen, *said),
    )


def charts(group: Group, results: list[Result], spread: str) -> Iterator[Chart]:
    """The averages of the tables."""
    for table, chosen in _tabled(group, results, spread):
        methods = {label: method for method, label in labels(chosen).items()}
        rows = [
            Dots(row.label, methods[row.label], list(row.values))
            for row in table.rows
            if row.section == AVERAGE and not row.published
        ]
        if all(row.values[-1].number is None for row in rows):
            continue
        of = len({result.dataset for result in chosen})
        heading = f"{table.title}: average of {of} data sets" if of > 1 else table.title
        notes = group.notes(chosen)
        yield DotsChart(table.name, table.title, table.columns, rows, group.accuracy, notes, heading)


def measures(results: list[Result], constant: str | None) -> Iterator[tuple[str, Measure]]:
    """Accuracy on base classes, on new classes, and H of both."""
    halves = {}
    for subset in ("base", "new"):
        chosen = [result for result in of_protocol(results, "base2new") if result.subset == subset]
        halves[subset] = measure(chosen, constant, chosen)
        yield f"{subset} classes", halves[subset]
    base, new = halves["base"], halves["new"]
    yield "H", {key: harmonic_mean(base[key], new[key]) for key in base if key in new}


PROTOCOLS = (
    Protocol(
        "base2new",
        of_each_cell(base_runs, new_runs, all_runs),
        {"base2new_train": Step(base_runs), "base2new_test": Step(new_runs), "base2new_all": Step(all_runs)},
        other_classes=True,
        place=place,
        tables=tables,
        charts=charts,
        measures=measures,
    ),
)
