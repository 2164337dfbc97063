"""Few-shot learning: train on a few images of each class, test on all classes; zero-shot for what learns nothing.

few-shot    <dataset>/<Trainer>/<cfg>_16shots/seed1      also the source of a transfer
zero-shot   <Trainer>/<cfg>/<dataset>
"""

from collections.abc import Iterator

from tools.launching.cell import Cell
from tools.launching.run import Run
from tools.protocols.protocol import Protocol, Step, of_each_cell
from tools.reporting.averages import AVERAGE
from tools.reporting.charts import Chart, Dots, DotsChart, LinesChart
from tools.reporting.paired_differences import Measure, measure
from tools.reporting.result import Result
from tools.reporting.selection import Group, few_shot_results, in_words, labels, of_protocol, ordered_methods
from tools.reporting.series import accuracy_over, lines_over, table_over
from tools.reporting.tables import Table, Value
from tools.reporting.tested import Place, Tested


def fewshot(cell: Cell) -> list[Run]:
    """Train on a few images of each class, test on all test images."""
    if not cell.learns:
        return zeroshot(cell)
    return [cell.run("fewshot", folder_of(cell, cell.dataset), "DATASET.NUM_SHOTS", cell.shots)]


def zeroshot(cell: Cell) -> list[Run]:
    """Test a method that learns nothing."""
    if cell.learns:
        raise ValueError(f"{cell.trainer} is trained; zeroshot is for methods that are not")
    return [cell.run("zeroshot", f"{cell.trainer}/{cell.config}/{cell.dataset}")]


def folder_of(cell: Cell, dataset: str) -> str:
    """Where the cell's method is trained on a data set."""
    return f"{dataset}/{cell.trainer}/{cell.config}_{cell.shots}shots/seed{cell.seed}"


def place(tested: Tested) -> Place | None:
    """Testing a model once more where it was trained is the training run's own result."""
    return Place() if tested.at_home and tested.subset == "all" else None


def tables(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Accuracy over shots, average first."""
    chosen = few_shot_results(results)
    if chosen:
        title = f"Few-shot learning, {group}"
        yield table_over("fewshot", title, "shot", lambda r: r.shots, group, chosen, spread)


def charts(group: Group, results: list[Result], spread: str) -> Iterator[Chart]:
    """Accuracy over shots as lines; as dots where there is one number of shots."""
    chosen = few_shot_results(results)
    if not chosen:
        return
    notes = group.notes(chosen)
    if len({result.shots for result in chosen if result.learns}) > 1:
        lines = lines_over(chosen, lambda r: r.shots, spread)
        title = f"Accuracy over shots, {group}"
        yield LinesChart("fewshot", title, lines, "training images per class", group.accuracy, notes)
        return
    scope, places, values = accuracy_over(chosen, lambda r: r.shots, spread)
    named = labels(chosen)
    panels = [AVERAGE, *scope.datasets] if len(scope.datasets) > 1 else list(scope.datasets)
    rows = [
        Dots(
            named[method] + ("" if learns or not places[-1] else " (no shots)"),
            method,
            [
                next((values[name, method, at] for at in places if (name, method, at) in values), Value())
                for name in panels
            ],
        )
        for method, learns in ordered_methods(chosen)
    ]
    title = f"Accuracy with {in_words(places[-1])}, {group}"
    yield DotsChart("fewshot", title, panels, rows, group.accuracy, notes)


def measures(results: list[Result], constant: str | None) -> Iterator[tuple[str, Measure]]:
    """Accuracy."""
    chosen = of_protocol(results, "fewshot")
    yield "few-shot", measure(chosen, constant, chosen)


PROTOCOLS = (
    Protocol(
        "fewshot",
        of_each_cell(fewshot),
        {"fewshot": Step(fewshot)},
        shots=(1, 2, 4, 8, 16),
        tests_learned_classes=True,
        place=place,
        tables=tables,
        charts=charts,
        measures=measures,
    ),
    # Its results are those of no shots in few-shot learning.
    Protocol(
        "zeroshot",
        of_each_cell(zeroshot),
        {"zeroshot": Step(zeroshot, {})},
        for_learning=False,
        tests_learned_classes=True,
    ),
)
