"""A grid of methods, data sets, shots and seeds: what a protocol makes runs of."""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.launching.cell import SHOTS, Cell
from tools.launching.published_configs import published_config

SOURCE = "imagenet"


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
