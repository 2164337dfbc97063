"""An explained image as a figure for papers: the image beside maps, each with its word."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tools.explaining.colours import LARGEST_RATIO, of_cosines, of_mass
from tools.explaining.maps import Explanation, relative_mass
from tools.explaining.page import largest_pair, limits

INCH = 1.25  #: width of a map
SMALL = 128  #: pixels of a picture that are shown as they are
BELOW = 0.22  #: of a map's height, for the visual prompt tokens below it


class _Row(NamedTuple):
    label: str  #: of the image
    maps: list[tuple[str, np.ndarray]]  #: title and colours (P, 4)


def figure(explanation: Explanation, title: str = "") -> Figure:
    """A row of maps for each class, of the pair of prompts that share most mass; where nothing is matched, one map for
    each class in one row.

    Visual prompt tokens stand as rectangles below the patches.
    """
    drawn_rows = _matched(explanation) if explanation.matched else _cosines(explanation)
    width = 1 + max(len(row.maps) for row in drawn_rows)
    rows, columns = explanation.grid
    height = INCH * rows / columns * (1 + BELOW * (explanation.prompts > 0)) + 0.5
    size = (INCH * width + 0.3, height * len(drawn_rows) + 0.6)
    drawn = Figure(figsize=size, layout="constrained")
    smoothing = "nearest" if max(explanation.picture.size) <= SMALL else "auto"
    axes = drawn.subplots(len(drawn_rows), width, squeeze=False)
    for line, row in zip(axes, drawn_rows):
        for axis, (name, colours) in zip(line, [(row.label, None), *row.maps]):
            axis.imshow(explanation.picture, extent=(0, columns, rows, 0), interpolation=smoothing)
            axis.set_title(_wrapped(name, 20), fontsize=7, parse_math=False)
            if colours is not None:
                _lay_over(axis, explanation, colours)
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_xlim(0, columns)
        axis.set_ylim(rows * (1 + BELOW * (explanation.prompts > 0)), 0)
    text = f"{title}. {_scale(explanation)}" if title else _scale(explanation)
    drawn.suptitle(_wrapped(text, int(14 * size[0])), fontsize=8, parse_math=False)
    return drawn


def _matched(explanation: Explanation) -> list[_Row]:
    rows = []
    for candidate in explanation.candidates:
        m, n = largest_pair(candidate)
        pair = candidate.pairs[m][n]
        label = f"{_spaced(candidate.name)}\n{candidate.probability:.1%}"
        if candidate.plan is not None:
            label += f"; pair {m + 1}, {n + 1}"
        colours = of_mass(relative_mass(pair)).transpose(1, 0, 2)
        rows.append(_Row(label, list(zip(pair.words, colours))))
    return rows


def _cosines(explanation: Explanation) -> list[_Row]:
    maps = []
    for candidate in explanation.candidates:
        values = candidate.pairs[0][0].values[:, 0]
        name = f"{_spaced(candidate.name)}\n{candidate.probability:.1%}"
        maps.append((name, of_cosines(values, *limits(explanation))))
    return [_Row("", maps)]


def _scale(explanation: Explanation) -> str:
    if explanation.matched:
        text = f"Mass, from 1/{LARGEST_RATIO:g} (blue) to {LARGEST_RATIO:g} times (orange) that of the uniform plan"
    else:
        least, most = limits(explanation)
        text = f"Cosine of patch and class, {least:.3f} to {most:.3f} (orange), which the method does not use"
    return text + ("; below: visual prompt tokens" if explanation.prompts else "")


def _lay_over(axis: Axes, explanation: Explanation, colours: np.ndarray) -> None:
    """Colours (P, 4) over the picture, those of visual prompt tokens below it."""
    rows, columns = explanation.grid
    patches = colours[: rows * columns].reshape(rows, columns, 4)
    axis.imshow(patches, extent=(0, columns, rows, 0), interpolation="nearest")
    step = columns / max(1, explanation.prompts)
    for number, colour in enumerate(colours[rows * columns :]):
        place = (number * step + 0.1 * step, rows * (1 + BELOW * 0.3))
        axis.add_patch(
            Rectangle(place, 0.8 * step, rows * BELOW * 0.6, facecolor=colour, edgecolor="0.5", linewidth=0.5)
        )


def _wrapped(text: str, width: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width))


def _spaced(name: str) -> str:
    return name.replace("_", " ")
