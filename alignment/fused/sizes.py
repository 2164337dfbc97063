"""How a kernel is cut to the sizes of a problem."""

from __future__ import annotations

from typing import Any

import triton

MOST_CELLS = 16384  # of one problem, padded to powers of two: what a program holds in its registers
WARP_CELLS = 2048  # of those that one warp holds: 64 for each of its threads
SMALL_PROGRAM = 256  # cells of small problems that a warp solves together


def unsupported(rows: int, cols: int) -> str | None:
    """Why problems of these set sizes cannot be held in registers, or None."""
    cells = triton.next_power_of_2(rows) * triton.next_power_of_2(cols)
    if cells > MOST_CELLS:
        return f"{rows} x {cols} points take {cells} registers when padded to powers of two, more than {MOST_CELLS}"
    return None


def launch(rows: int, cols: int, group: int = 1) -> dict[str, Any]:
    """Padded sizes of ``group`` problems in one program, and its warps."""
    ROWS, COLS = triton.next_power_of_2(rows), triton.next_power_of_2(cols)
    cells = group * ROWS * COLS
    return {
        "GROUP": group,
        "ROWS": ROWS,
        "COLS": COLS,
        "num_warps": max(1, min(8, triton.next_power_of_2(cells // WARP_CELLS))),
    }


def small_group(rows: int, cols: int) -> int:
    """How many problems of that size one program solves together."""
    return max(1, SMALL_PROGRAM // (triton.next_power_of_2(rows) * triton.next_power_of_2(cols)))
