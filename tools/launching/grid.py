"""A grid of methods, data sets, shots and seeds, and the runs that a protocol makes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tools.launching import protocols
from tools.launching.protocols import SHOTS, SOURCE, Cell, Run
from tools.launching.published_configs import published_config

ELEVEN = (
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
VARIANTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


@dataclass(frozen=True)
class Grid:
    """What launch.py is asked for.

    Attributes:
        trainers: (method, config) pairs; without a config, the one that its authors used for the protocol.
        source: what transferred models are trained on.
        lengths: numbers of context tokens, for prompt_length.
        settings: KEY VALUE pairs for every run.
    """

    protocol: str
    trainers: tuple[tuple[str, str | None], ...]
    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    shots: tuple[int, ...] = (SHOTS,)
    source: str = SOURCE
    lengths: tuple[int, ...] = (2, 4, 8, 16)
    settings: tuple[str, ...] = ()

    def cells(self, datasets: tuple[str, ...] | None = None) -> Iterator[Cell]:
        """Every method and seed on each data set with each number of shots.

        A method that learns nothing needs one seed.
        """
        for dataset in datasets or self.datasets:
            for shots in self.shots:
                for trainer, config in self.trainers:
                    name = config or published_config(trainer, self.protocol, dataset, shots)
                    for seed in self.seeds:
                        cell = Cell(trainer, name, dataset, seed, shots, self.settings)
                        if cell.learns or seed == self.seeds[0]:
                            yield cell


def _transfer(step: str) -> Callable[[Grid], Iterator[Run]]:
    def runs(grid: Grid) -> Iterator[Run]:
        for cell in grid.cells((grid.source,)):
            yield from protocols.xd_train(cell)
            for dataset in grid.datasets:
                target = Cell(cell.trainer, cell.config, dataset, cell.seed, cell.shots, cell.settings)
                yield from protocols.transfer_test(target, grid.source, step)

    return runs


def _of_each_cell(*steps: Callable[[Cell], list[Run]]) -> Callable[[Grid], Iterator[Run]]:
    return lambda grid: (run for cell in grid.cells() for step in steps for run in step(cell))


def _prompt_lengths(grid: Grid) -> Iterator[Run]:
    for cell in grid.cells():
        for length in grid.lengths:
            yield from protocols.prompt_length(cell, length)


@dataclass(frozen=True)
class Protocol:
    """How a grid becomes runs, and the published choice of data sets and shots."""

    runs: Callable[[Grid], Iterator[Run]]
    datasets: tuple[str, ...] = ELEVEN
    shots: tuple[int, ...] = (SHOTS,)


PROTOCOLS = {
    "fewshot": Protocol(_of_each_cell(protocols.fewshot), shots=(1, 2, 4, 8, 16)),
    "zeroshot": Protocol(_of_each_cell(protocols.zeroshot)),
    "base2new": Protocol(_of_each_cell(protocols.base2new_train, protocols.base2new_test)),
    "xd": Protocol(_transfer("xd_test"), ELEVEN[1:]),
    "dg": Protocol(_transfer("dg_test"), VARIANTS),
    "prompt_length": Protocol(_prompt_lengths),
    "overfitting": Protocol(_of_each_cell(protocols.overfitting)),
}


def check_protocol(name: str) -> None:
    """ValueError for an unknown protocol, with those that exist."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is unknown, choose from: {', '.join(PROTOCOLS)}")


def expand(grid: Grid) -> list[Run]:
    """All runs of a grid, a model's training before its tests, none twice.

    ValueError for anything in the grid that does not exist, and for an empty grid.
    """
    check_protocol(grid.protocol)
    runs = list({run.folder: run for run in PROTOCOLS[grid.protocol].runs(grid)}.values())
    if not runs:
        raise ValueError(f"{grid.protocol}: the grid is empty")
    return runs
