"""Accuracy over the number of context tokens, in whichever towers a method has them.

prompt_length/<dataset>/shots_16/<Trainer>/<cfg>/nctx4/seed1
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.launching.cell import SHOTS, Cell
from tools.launching.context_length import length_settings
from tools.launching.grid import Grid
from tools.launching.run import Run
from tools.protocols.protocol import Protocol, Step
from tools.reporting.charts import Chart, LinesChart
from tools.reporting.result import Result
from tools.reporting.selection import Group, in_words, of_protocol, with_shots
from tools.reporting.series import lines_over, table_over
from tools.reporting.tables import Table
from tools.reporting.tested import Place, Tested


def prompt_length(cell: Cell, n_ctx: int) -> list[Run]:
    """Train and test with `n_ctx` context tokens."""
    lengths = length_settings(cell.trainer, cell.config, n_ctx, cell.settings)
    folder = f"prompt_length/{cell.place}/nctx{n_ctx}/seed{cell.seed}"
    settings = ("DATASET.NUM_SHOTS", cell.shots, *lengths)
    return [cell.run("prompt_length", folder, *settings, remark=f"n {n_ctx}")]


def runs(grid: Grid) -> Iterator[Run]:
    """Every length on each cell."""
    for cell in grid.cells():
        for length in grid.lengths:
            yield from prompt_length(cell, length)


def place(tested: Tested) -> Place | None:
    """By the folder that is named after the length; half of the classes make another data set."""
    length = _length(tested.path.parts) if tested.at_home else 0
    if not length:
        return None
    halved = "" if tested.subset == "all" else f"{tested.record['dataset']}, {tested.subset} classes"
    return Place(at=length, dataset=halved)


def _length(parts: tuple[str, ...]) -> int:
    """The context tokens that a folder of prompt_length is named after; 0 for other folders.

    ValueError where the protocol's layout has no such folder.
    """
    for start in (start for start, part in enumerate(parts) if part == "prompt_length"):
        below = parts[start + 1 :]
        for part in below:
            if found := re.fullmatch(r"nctx(\d+)", part):
                return int(found.group(1))
        if len(below) > 1 and below[1].startswith("shots_"):
            raise ValueError("below prompt_length/, but in no folder like nctx4")
    return 0


def check(results: list[Result]) -> tuple[list[Result], list[str]]:
    """Leave out models that are of one size whatever their folders are named."""
    series: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for r in results:
        series[r.method, r.backbone, r.dataset, r.seed, r.shots, r.record["trainable_parameters"]].append(r)
    wrong: set[Path] = set()
    warnings = []
    for found in series.values():
        lengths = sorted({result.at for result in found})
        if len(lengths) > 1:
            wrong |= {result.path for result in found}
            names = ", ".join(f"nctx{length}" for length in lengths)
            warnings.append(
                f"skipped: the prompt length of {found[0].method} on {found[0].dataset} with seed {found[0].seed} did "
                f"not vary, models of {names} have {found[0].record['trainable_parameters']:,} parameters each"
            )
    return [result for result in results if result.path not in wrong], warnings


def tables(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Accuracy over the number of context tokens, average first."""
    for shots, chosen in with_shots(of_protocol(results, "prompt_length")):
        title = f"Accuracy over prompt length, {in_words(shots)}, {group}"
        name = f"prompt_length_{shots}shots"
        yield table_over(name, title, "token", lambda r: r.at, group, chosen, spread)


def charts(group: Group, results: list[Result], spread: str) -> Iterator[Chart]:
    """The same as lines."""
    for shots, chosen in with_shots(of_protocol(results, "prompt_length")):
        title = f"Accuracy over prompt length, {in_words(shots)}, {group}"
        lines = lines_over(chosen, lambda r: r.at, spread)
        notes = group.notes(chosen)
        yield LinesChart(f"prompt_length_{shots}shots", title, lines, "context tokens", group.accuracy, notes)


PROTOCOLS = (
    Protocol(
        "prompt_length",
        runs,
        {"prompt_length": Step(prompt_length, {"N_CTX": int, "SHOTS": SHOTS})},
        for_learning=True,
        place=place,
        check=check,
        tables=tables,
        charts=charts,
    ),
)
