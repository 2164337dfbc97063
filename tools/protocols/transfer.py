"""Transfer: train on one data set, test on others (xd) or on variants of the same (dg, domain generalisation).

<source>/<Trainer>/<cfg>_16shots/seed1                         as in few-shot learning
evaluation/<Trainer>/<cfg>_16shots/<dataset>/seed1             of a model of ImageNet
evaluation_from_<source>/<Trainer>/<cfg>_16shots/...           of another
"""

from collections.abc import Callable, Iterator
from functools import partial

from runs import shipped
from runs.shipped import ELEVEN, VARIANTS
from tools.launching.cell import SHOTS, Cell
from tools.launching.grid import SOURCE, Grid
from tools.launching.run import Run
from tools.protocols.few_shot import fewshot, folder_of, zeroshot
from tools.protocols.protocol import Protocol, Step
from tools.reporting import published
from tools.reporting.averages import AVERAGE, accuracies, notes_of, scope_of
from tools.reporting.paired_differences import Measure, measure
from tools.reporting.result import Result
from tools.reporting.selection import Group, in_words, labels, of_protocol, ordered_datasets, ordered_methods
from tools.reporting.tables import Row, Table
from tools.reporting.tested import Place, Tested

# Tests of a model under other conditions than those of its data set.
VARIANTS_OF = {
    "ImageNet": published.VARIANTS,
    "Shapes": ("ShapesBackgrounds", "ShapesSketch", "ShapesNoise"),
}


def target_runs(cell: Cell, source: str = SOURCE, step: str = "xd_test") -> list[Run]:
    """Test the source's model on another data set."""
    shipped.check_dataset(source)
    if not cell.learns:
        return zeroshot(cell)
    where = "evaluation" if source == SOURCE else f"evaluation_from_{source}"
    folder = f"{where}/{cell.trainer}/{cell.config}_{cell.shots}shots/{cell.dataset}/seed{cell.seed}"
    return [cell.run(step, folder, tests=folder_of(cell, source))]


def runs(step: str) -> Callable[[Grid], Iterator[Run]]:
    """A training on the source, and its tests on all of the grid's data sets."""

    def of_grid(grid: Grid) -> Iterator[Run]:
        for cell in grid.cells((grid.source,)):
            yield from fewshot(cell)
            for dataset in grid.datasets:
                target = Cell(cell.trainer, cell.config, dataset, cell.seed, cell.shots, cell.settings)
                yield from target_runs(target, grid.source, step)

    return of_grid


def place(tested: Tested, to_variants: bool) -> Place | None:
    """A model of all classes of its source, tested on all classes of another data set."""
    source = tested.training["dataset"]
    if source == tested.record["dataset"] or not (tested.trained_subset == tested.subset == "all"):
        return None
    is_variant = tested.record["dataset"] in VARIANTS_OF.get(source, ())
    return Place(source=source) if is_variant == to_variants else None


def tables(group: Group, results: list[Result], spread: str, protocol: str) -> Iterator[Table]:
    """A source's models on their targets, with the targets' average."""
    tested = of_protocol(results, protocol)
    own = of_protocol(results, "fewshot")
    for source, shots in sorted({(result.source, result.shots) for result in tested}):
        targets = [result for result in tested if (result.source, result.shots) == (source, shots)]
        datasets = ordered_datasets(targets)
        targets += [r for r in own if not r.learns and r.dataset in (source, *datasets)]
        targets += [r for r in own if r.learns and r.dataset == source and r.shots == shots]
        yield _table(group, targets, spread, source, shots, datasets, protocol)


def _table(
    group: Group,
    results: list[Result],
    spread: str,
    source: str,
    shots: int,
    datasets: tuple[str, ...],
    protocol: str,
) -> Table:
    scope, named = scope_of(results, datasets, spread), labels(results)
    rows = []
    for method, learns in ordered_methods(results):
        found = accuracies(r for r in results if r.method == method)
        if not any(name in found for name in datasets):
            continue
        values = [scope.of_dataset(found.get(name, {}), learns) for name in (source, *datasets)]
        targets = {name: found[name] for name in datasets if name in found}
        rows.append(Row("", named[method], (*values, scope.average(targets, learns))))
    title, usual, literature = {
        "xd": ("Cross-data-set transfer", published.CROSS_DATASETS, published.CROSS_DATASET),
        "dg": ("Domain generalisation", published.VARIANTS, published.DOMAINS),
    }[protocol]
    if (group, source, shots, datasets) == (Group(published.BACKBONE), "ImageNet", published.SHOTS, usual):
        rows += published.rows("", literature)
    return Table(
        f"{protocol}_{source}_{shots}shots",
        f"{title} from {source}, {in_words(shots)}, {group}",
        "",
        (source, *datasets, AVERAGE),
        tuple(rows),
        notes_of(group, scope, results, f"{AVERAGE} is that of the targets, without {source}"),
    )


def measures(results: list[Result], constant: str | None) -> Iterator[tuple[str, Measure]]:
    """Accuracy on all targets; of what learns nothing that is its few-shot result."""
    yield "transfer", measure(of_protocol(results, "xd", "dg"), constant, of_protocol(results, "fewshot"))


WORDS: dict[str, int | str | type[int]] = {"SHOTS": SHOTS, "SOURCE": SOURCE}

PROTOCOLS = (
    Protocol(
        "xd",
        runs("xd_test"),
        {"xd_train": Step(fewshot), "xd_test": Step(target_runs, WORDS)},
        ELEVEN[1:],
        other_classes=True,
        place=partial(place, to_variants=False),
        tables=partial(tables, protocol="xd"),
        measures=measures,  # of both
    ),
    Protocol(
        "dg",
        runs("dg_test"),
        {"dg_test": Step(partial(target_runs, step="dg_test"), WORDS)},
        VARIANTS,
        place=partial(place, to_variants=True),
        tables=partial(tables, protocol="dg"),
    ),
)
