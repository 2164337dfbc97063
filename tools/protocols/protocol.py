"""What a protocol is: the parts that its file in this folder gives."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from runs.shipped import ELEVEN
from tools.launching.cell import SHOTS, Cell
from tools.launching.grid import Grid
from tools.launching.run import Run
from tools.reporting.charts import Chart
from tools.reporting.paired_differences import Measure
from tools.reporting.result import Result
from tools.reporting.selection import Group
from tools.reporting.tables import Table
from tools.reporting.tested import Place, Tested


@dataclass(frozen=True)
class Step:
    """A part of a protocol that is run alone: scripts/<name>.sh TRAINER CFG DATASET SEED and `words`.

    Attributes:
        runs: from a cell, and a keyword argument for each word but SHOTS, which is the cell's.
        words: names of what may follow, in this order, with the value where it may be left out; where it may not,
            the type `int`.
    """

    runs: Callable[..., list[Run]]
    words: Mapping[str, int | str | type[int]] = field(default_factory=lambda: {"SHOTS": SHOTS})


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate methods: which runs it consists of, which records are its results, how they are shown.

    Attributes:
        name: what is typed, and what its results are filed under.
        runs: all runs of a grid, a model's training before its tests.
        steps: its parts that can be run alone, by their names.
        datasets, shots: the published choice.
        for_learning: whether it is for methods that learn something (True) or nothing (False); None for all.
        tests_learned_classes: whether it tests nothing but the classes of its training images. Without them,
            a search has no settings to choose for a method that learns nothing.
        never_searched: why no settings can be chosen for it on validation images, "tests all ..."; "" where they can.
        other_classes: whether models are tested on classes that they were not trained on.
        place: where a tested model stands among its results; None for what is not one of them. ValueError for what
            would be one but for something that is wrong.
        check: its results without those that cannot be meant, and a warning for what was left out.
        tables, charts: of the results of one backbone and split, of all protocols; the last argument is the spread.
        measures: on what methods are compared in pairs, by name; the last argument is a method that learns nothing,
            whose results stand for any seed and shots, or None.
    """

    name: str
    runs: Callable[[Grid], Iterator[Run]]
    steps: Mapping[str, Step] = field(default_factory=dict)
    datasets: tuple[str, ...] = ELEVEN
    shots: tuple[int, ...] = (SHOTS,)
    for_learning: bool | None = None
    tests_learned_classes: bool = False
    never_searched: str = ""
    other_classes: bool = False
    place: Callable[[Tested], Place | None] = lambda tested: None
    check: Callable[[list[Result]], tuple[list[Result], list[str]]] = lambda results: (results, [])
    tables: Callable[[Group, list[Result], str], Iterable[Table]] = lambda *_: ()
    charts: Callable[[Group, list[Result], str], Iterable[Chart]] = lambda *_: ()
    measures: Callable[[list[Result], str | None], Iterable[tuple[str, Measure]]] = lambda *_: ()

    @property
    def has_source(self) -> bool:
        """Whether models are trained on one data set, and tested on others."""
        return any("SOURCE" in step.words for step in self.steps.values())


def of_each_cell(*steps: Callable[[Cell], list[Run]]) -> Callable[[Grid], Iterator[Run]]:
    """The `runs` of a protocol that does all `steps` on each cell of the grid."""
    return lambda grid: (run for cell in grid.cells() for step in steps for run in step(cell))
