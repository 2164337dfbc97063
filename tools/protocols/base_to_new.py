"""Base-to-new generalisation: train on the first half of the classes, test on either half, each told apart.

base2new/{train_base,test_new}/<dataset>/shots_16/<Trainer>/<cfg>/seed1
"""

from collections.abc import Iterator

from tools.launching.cell import Cell
from tools.launching.run import Run
from tools.protocols.protocol import Protocol, Step, of_each_cell
from tools.reporting import published
from tools.reporting.averages import AVERAGE, accuracies, notes_of, scope_of
from tools.reporting.charts import Chart, Dots, DotsChart
from tools.reporting.paired_differences import Measure, measure
from tools.reporting.result import Result
from tools.reporting.selection import (
    Group,
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


def half(cell: Cell, subset: str) -> list[object]:
    """The settings of a run on the base or on the new classes."""
    return ["DATASET.NUM_SHOTS", cell.shots, "DATASET.SUBSAMPLE_CLASSES", subset]


def place(tested: Tested) -> Place | None:
    """Base and new classes are told apart by the result's subset."""
    return Place() if tested.at_home and tested.subset != "all" else None


def tables(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Base and new accuracy and H, average first; one table for each number of shots."""
    for shots, chosen in with_shots(of_protocol(results, "base2new")):
        datasets = ordered_datasets(chosen)
        scope, named = scope_of(chosen, datasets, spread), labels(chosen)
        halves = {
            method: tuple(
                accuracies(r for r in chosen if r.method == method and r.subset == subset)
                for subset in ("base", "new")
            )
            for method, _ in ordered_methods(chosen)
        }
        with_published = (group, shots) == (Group(published.BACKBONE), published.SHOTS)
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
                rows.append(
                    Row(dataset, named[method], (*values, scope.harmonic(base, new, learns, [dataset])))
                )
            if with_published:
                rows += published.rows(dataset, published.BASE_TO_NEW_ON.get(dataset, ()))
        unlearned = [named[method] for method, learns in ordered_methods(chosen) if not learns]
        said = ["H is the harmonic mean of the mean base and the mean new accuracy"]
        said += [f"of no shots: {', '.join(unlearned)}"] if unlearned and shots else []
        yield Table(
            f"base2new_{shots}shots",
            f"Base-to-new generalisation, {in_words(shots)}, {group}",
            "data set",
            ("Base", "New", "H"),
            tuple(rows),
            notes_of(group, scope, chosen, *said),
        )


def charts(group: Group, results: list[Result], spread: str) -> Iterator[Chart]:
    """The averages of the tables."""
    every = with_shots(of_protocol(results, "base2new"))
    for table, (_, chosen) in zip(tables(group, results, spread), every):
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
        of_each_cell(base_runs, new_runs),
        {"base2new_train": Step(base_runs), "base2new_test": Step(new_runs)},
        place=place,
        tables=tables,
        charts=charts,
        measures=measures,
    ),
)
