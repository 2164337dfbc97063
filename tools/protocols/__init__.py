"""The protocols, one file each: its runs and their folders, how its records are recognised, its tables and charts.

A new one is a file here and its name below. Their order is that of a report; a record is that of the last one that
claims it, so what is more special stands behind.
"""

from tools.launching.grid import Grid
from tools.launching.run import Run
from tools.protocols import base_to_new, few_shot, overfitting, prompt_length, transfer
from tools.protocols.protocol import Protocol, Step

_FILES = (base_to_new, few_shot, transfer, prompt_length, overfitting)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for file in _FILES for protocol in file.PROTOCOLS}
#: What can be run alone, by scripts/<step>.sh.
STEPS: dict[str, Step] = {
    name: step for protocol in PROTOCOLS.values() for name, step in protocol.steps.items()
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
