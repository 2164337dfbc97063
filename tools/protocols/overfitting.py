"""Accuracy over epochs: train on the base classes keeping about ten checkpoints, test each on base and new classes.

overfitting/train_base/<dataset>/shots_16/<Trainer>/<cfg>/seed1
overfitting/test_{base,new}/<dataset>/shots_16/<Trainer>/<cfg>/seed1/epoch5
"""

from collections.abc import Iterator
from itertools import pairwise

from runs import shipped
from tools.launching.cell import Cell
from tools.launching.run import Run
from tools.protocols.base_to_new import half
from tools.protocols.protocol import Protocol, Step, of_each_cell
from tools.reporting.charts import Chart, Line, LinesChart
from tools.reporting.result import Result
from tools.reporting.selection import Group, in_words, of_protocol, with_shots
from tools.reporting.series import lines_over, table_over
from tools.reporting.tables import Table
from tools.reporting.tested import Place, Tested

POINTS = 10  # of a curve


def overfitting(cell: Cell) -> list[Run]:
    """The training, and the tests of its checkpoints."""
    last = max_epoch(cell)
    every = max(1, last // POINTS)
    name = f"{cell.place}/seed{cell.seed}"
    model = f"overfitting/train_base/{name}"
    training = cell.run("overfitting", model, *half(cell, "base"), "TRAIN.CHECKPOINT_FREQ", every)
    tests = [
        cell.run(
            "overfitting",
            f"overfitting/test_{subset}/{name}/epoch{epoch}",
            *half(cell, subset),
            tests=model,
            load_epoch=epoch,
            remark=f"epoch {epoch} {subset}",
        )
        for epoch in sorted({*range(every, last + 1, every), last})
        for subset in ("base", "new")
    ]
    return [training, *tests]


def max_epoch(cell: Cell) -> int:
    """How many epochs a method trains: of the user's settings, or else of its config.

    ValueError where it trains none, or as many as the data set makes of its steps.
    """
    optim = {f"OPTIM.{k}": v for k, v in shipped.settings(cell.trainer, cell.config).get("OPTIM", {}).items()}
    optim |= dict(zip(cell.settings[::2], cell.settings[1::2]))
    if steps := int(optim.get("OPTIM.STEPS_PER_SHOT", 0)):
        raise ValueError(
            f"{cell.trainer}/{cell.config} trains {steps} steps for each shot (OPTIM.STEPS_PER_SHOT), overfitting "
            "needs epochs: --opts OPTIM.STEPS_PER_SHOT 0 OPTIM.MAX_EPOCH NUMBER"
        )
    epochs = optim.get("OPTIM.MAX_EPOCH")
    if epochs is None:
        raise ValueError(f"{cell.trainer}/{cell.config} has no OPTIM.MAX_EPOCH: nothing is trained")
    return int(epochs)


def place(tested: Tested) -> Place | None:
    """By the folder; the training alone is no point of the curve, its model is tested as the last epoch's."""
    parts, below = tested.path.parts, ("train_base", "test_base", "test_new")
    # A folder of that name alone says nothing.
    if not tested.at_home or not any(a == "overfitting" and b in below for a, b in pairwise(parts)):
        return None
    return Place(at=tested.record["load_epoch"] or 0, counts=tested.evaluates)


def tables(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Accuracy over epochs on base and on new classes, average first."""
    for shots, of_shots in with_shots(of_protocol(results, "overfitting")):
        for subset in ("base", "new"):
            chosen = [result for result in of_shots if result.subset == subset]
            if chosen:
                title = f"Accuracy over epochs on the {subset} classes, {in_words(shots)}, {group}"
                name = f"overfitting_{subset}_{shots}shots"
                yield table_over(name, title, "epoch", lambda r: r.at, group, chosen, spread)


def charts(group: Group, results: list[Result], spread: str) -> Iterator[Chart]:
    """Both in one figure."""
    for shots, chosen in with_shots(of_protocol(results, "overfitting")):
        title = f"Accuracy over epochs on base (solid) and new classes (dashed), {in_words(shots)}, {group}"
        panels: dict[str, list[Line]] = {}
        for subset in ("base", "new"):
            of_subset = [result for result in chosen if result.subset == subset]
            found = lines_over(of_subset, lambda r: r.at, spread, subset)
            for panel, lines in found.items():
                panels.setdefault(panel, []).extend(lines)
        yield LinesChart(
            f"overfitting_{shots}shots", title, panels, "epoch", group.accuracy, group.notes(chosen)
        )


PROTOCOLS = (
    Protocol(
        "overfitting",
        of_each_cell(overfitting),
        {"overfitting": Step(overfitting)},
        for_learning=True,
        never_searched="tests all checkpoints of a training, whichever is best",
        other_classes=True,
        place=place,
        tables=tables,
        charts=charts,
    ),
)
