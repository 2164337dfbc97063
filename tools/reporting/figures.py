"""Charts as figures, drawn by Matplotlib.

Dots and not bars: bars must begin at zero, where methods a point apart look alike.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tools.reporting.averages import AVERAGE
from tools.reporting.charts import DotsChart, Line, LinesChart, ReliabilityChart
from tools.reporting.contents import all_charts
from tools.reporting.result import Result
from tools.reporting.selection import ordered_methods
from tools.reporting.tables import Value

matplotlib.rcParams["text.parse_math"] = False  # a $ in a name is a $

# Okabe and Ito's colours, then those farthest from all others: in CIELAB any two are 26 apart, seen with protanopia or
# deuteranopia (Machado et al., 2009) 17.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
COLOURS += ["#003a9e", "#670000", "#2826c4", "#b50000", "#650063", "#a7c882", "#f42551"]
MARKERS = "osD^vPX<>dph"  # of another number than the colours: the pairs repeat after 84 methods
PANELS_IN_A_ROW = 4
MOST_TICKS = 6
LETTERS_IN_AN_INCH = 11  # of a title
LETTERS_IN_A_LABEL = 44  # of a method's name, on one line
LINE = 0.19  # inches, of a legend or a note
LETTER = 0.085  # inches, of a legend
AREA, LEAST_AREA = 500.0, 4.0  # square points, of all images and of hardly any
FAR = 1.5  # interquartile ranges from the quartiles: Tukey's fences


@dataclass
class Picture:
    """A figure, the name of its files and what it shows in words."""

    name: str
    title: str
    figure: Figure


def all_figures(results: list[Result], spread: str) -> Iterator[Picture]:
    """Every figure that there are results for."""
    style = styles(results)
    for chart in all_charts(results, spread):
        if isinstance(chart, ReliabilityChart):
            figure = _of_reliability(chart)
        else:
            figure = _of_lines(chart, style) if isinstance(chart, LinesChart) else _of_dots(chart, style)
        yield Picture(chart.name, chart.title, figure)


Style = dict[str, dict[str, Any]]


def styles(results: list[Result]) -> Style:
    """The same colour and marker for a method in every figure of a report, no two methods' alike.

    When the colours are used up they come again with other markers, which then are hollow.
    """
    names = [method for method, _ in ordered_methods(results)]
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "markerfacecolor": "white" if i // len(COLOURS) % 2 else COLOURS[i % len(COLOURS)],
        }
        for i, name in enumerate(names)
    }


def _of_lines(chart: LinesChart, style: Style) -> Figure:
    """One panel for each data set, one line with its spread for each method; a single point is a star."""
    panels = chart.panels
    across = min(PANELS_IN_A_ROW, len(panels))
    down = math.ceil(len(panels) / across)
    shown = {one.label: textwrap.fill(one.label, LETTERS_IN_A_LABEL) for of in panels.values() for one in of}
    longest = max(len(line) for text in shown.values() for line in text.splitlines())
    width = max(5.0, 3.4 * across)
    columns = max(1, min(2 * across, len(shown), int(width / (LETTER * longest + 0.5))))
    high = sum(
        sorted((text.count("\n") + 1 for text in shown.values()), reverse=True)[
            : math.ceil(len(shown) / columns)
        ]
    )
    figure = Figure(figsize=(width, 2.7 * down + 0.7 + LINE * high), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    handles: dict[str, Any] = {}
    for axes, (name, lines) in zip(grid.flat, panels.items()):
        _fill(axes, lines, style, handles)
        axes.set_title(name, fontsize=10, fontweight="bold" if name == AVERAGE else "normal")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(chart.label, fontsize=9)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.supylabel(chart.accuracy, fontsize=10)
    _entitle(figure, chart.title, chart.notes)
    figure.legend(
        list(handles.values()),
        [shown[name] for name in handles],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )
    return figure


def _entitle(figure: Figure, title: str, notes: Sequence[str]) -> None:
    """Put the title on top, in as many lines as the figure's width asks for, and what must be said below it."""
    lines = [title, *(f"({note})" for note in notes)]
    width = int(figure.get_figwidth() * LETTERS_IN_AN_INCH)
    text = "\n".join(textwrap.fill(line, width) for line in lines)
    figure.set_figheight(figure.get_figheight() + LINE * text.count("\n"))
    figure.suptitle(text, fontsize=11)


def _fill(axes: Axes, lines: Sequence[Line], style: Style, handles: dict[str, Any]) -> None:
    """Draw the lines of a panel, and say in words what is not in it: far out, or not complete."""
    drawn = [line for line in lines if not all(map(math.isnan, line.numbers))]
    limits, out = _limits({line.label: list(line.points.values()) for line in drawn})
    places = sorted({at for line in lines for at in line.points})
    for line in drawn:
        own = dict(style[line.method])
        if list(line.points) == [0]:
            own |= {"marker": "*", "markersize": 9}
        bar = axes.errorbar(
            list(line.points),
            line.numbers,
            yerr=[value.spread or math.nan for value in line.points.values()],
            linestyle="--" if line.dashed else "-",
            **{"linewidth": 1.3, "capsize": 2, "markersize": 4, **own},
        )
        handles.setdefault(line.label, bar)
    if out:
        axes.set_ylim(*limits)
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, integer=True))
    incomplete = dict.fromkeys(line.method for line in lines if line.incomplete)
    said = [f"{'↓' if low else '↑'} {name} {_range(numbers)}" for name, (numbers, low) in sorted(out.items())]
    if incomplete:
        names = {line.method: line.label for line in reversed(lines)}
        said.append("incomplete: " + ", ".join(names[method].removesuffix(", base") for method in incomplete))
    if said:
        text = "\n".join(textwrap.fill(words, LETTERS_IN_A_LABEL) for words in said)
        low, high = axes.get_ylim()  # leave room for what is said below the lines
        share = 0.075 * (text.count("\n") + 1)
        axes.set_ylim(low - (high - low) * share / (1 - share), high)
        axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=7, color="firebrick", va="bottom")


def _limits(
    values: dict[str, list[Value]],
) -> tuple[tuple[float, float], dict[str, tuple[list[float], bool]]]:
    """An axis for all methods but those far out, and these with their numbers and whether they lie below it.

    Far out is a method whose median is FAR interquartile ranges away from the quartiles of all methods' medians, if
    without it and its like the axis is at most half as long.
    """
    known = {name: [v.number for v in of_name if v.number is not None] for name, of_name in values.items()}
    known = {name: numbers for name, numbers in known.items() if numbers}
    if not known:
        return (0.0, 100.0), {}
    medians = {name: median(numbers) for name, numbers in known.items()}
    lower, upper = np.percentile(list(medians.values()), [25, 75])
    reach = FAR * (upper - lower)
    far = {name for name, middle in medians.items() if not lower - reach <= middle <= upper + reach}
    (low, high), (lowest, highest) = _ends(values, far), _ends(values, set())
    if highest - lowest < 2 * (high - low):
        far, low, high = set(), lowest, highest
    margin = 0.06 * (high - low) or 1.0
    return (low - margin, high + margin), {name: (known[name], medians[name] < lower) for name in far}


def _ends(values: dict[str, list[Value]], without: set[str]) -> tuple[float, float]:
    """The least and the largest number that is drawn, spreads included."""
    kept = [v for name in values if name not in without for v in values[name] if v.number is not None]
    ends = [(v.number or 0.0) + sign * (v.spread or 0.0) for v in kept for sign in (-1, 1)]
    return min(ends), max(ends)


def _range(numbers: list[float]) -> str:
    low, high = f"{min(numbers):.1f}", f"{max(numbers):.1f}"
    return low if low == high else f"{low} to {high}"


def _of_dots(chart: DotsChart, style: Style) -> Figure:
    """A panel for each value, a line for each method; what is far out stands at the edge, what is missing as words."""
    rows, panels = chart.rows, chart.panels
    shown = [textwrap.fill(row.label, LETTERS_IN_A_LABEL) for row in rows]
    beside = LETTER * max(len(line) for text in shown for line in text.splitlines())
    across = min(PANELS_IN_A_ROW, len(panels))
    down = math.ceil(len(panels) / across)
    height = sum(LINE * (text.count("\n") + 1) + 0.06 for text in shown)
    figure = Figure(
        figsize=(beside + max(5.0, 2.2 * across), down * (height + 0.7) + 0.6), layout="constrained"
    )
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes, (place, name) in zip(grid.flat, enumerate(panels)):
        values = {row.method: row.values[place] for row in rows}
        limits, out = _limits({method: [value] for method, value in values.items()})
        low, high = limits
        for at, (method, value) in enumerate(values.items()):
            own = style[method]
            if value.number is None:
                words = value.remark.partition(",")[0] or "-"
                axes.text(low, at, f" {words}", color="firebrick", fontsize=7, va="center")
            elif method in out:
                below = out[method][1]
                side, arrow = (low, f" ← {value.number:.1f}") if below else (high, f"{value.number:.1f} → ")
                axes.text(
                    side,
                    at,
                    arrow,
                    color="firebrick",
                    fontsize=7,
                    va="center",
                    ha="left" if below else "right",
                )
            else:
                axes.errorbar(
                    value.number,
                    at,
                    xerr=value.spread or math.nan,
                    linestyle="none",
                    capsize=2,
                    markersize=5,
                    **own,
                )
                axes.annotate(
                    f"{value.number:.1f}",
                    (value.number, at),
                    (0, 5),
                    textcoords="offset points",
                    fontsize=6,
                    ha="center",
                )
        axes.set_xlim(low, high)
        axes.set_title(name, fontsize=10, fontweight="bold" if name == AVERAGE else "normal")
        axes.set_yticks(range(len(rows)), shown, fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(chart.accuracy, fontsize=10)
    _entitle(figure, chart.heading or chart.title, chart.notes)
    return figure


def _of_reliability(chart: ReliabilityChart) -> Figure:
    """A panel for each method, dots whose areas are the bins' shares of the images, beside the perfect diagonal."""
    across = min(PANELS_IN_A_ROW, len(chart.panels))
    down = math.ceil(len(chart.panels) / across)
    figure = Figure(figsize=(max(5.0, 2.9 * across), 3.0 * down + 0.9), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    kinds = ("as they are", "with the fitted temperature (T)")
    handles = {}
    for axes, (name, both) in zip(grid.flat, chart.panels.items()):
        axes.plot([0, 100], [0, 100], color="0.6", linewidth=1, linestyle=":")
        said = []
        for kind, found, colour, hollow in zip(kinds, both, COLOURS, (False, True)):
            if not found.points:
                continue
            shares, confidences, rights = zip(*found.points)
            axes.plot(confidences, rights, color=colour, linewidth=1, alpha=0.6)
            handles[kind] = axes.scatter(
                confidences,
                rights,
                [AREA * share + LEAST_AREA for share in shares],
                facecolor="none" if hollow else colour,
                edgecolor=colour,
                linewidth=1.2,
                zorder=3,
                alpha=0.9,
                clip_on=False,
            )
            said.append(f"ECE{' at T' if hollow else ''} {found.ece:.1f} %")
        axes.text(97, 3, "\n".join(said), fontsize=8, va="bottom", ha="right")
        axes.set(
            xlim=(0, 100), ylim=(0, 100), xticks=range(0, 101, 25), yticks=range(0, 101, 25), aspect="equal"
        )
        axes.set_title(textwrap.fill(name, LETTERS_IN_A_LABEL), fontsize=10)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(chart.panels) :]:
        axes.set_visible(False)
    for axes in list(grid.flat)[
        max(0, len(chart.panels) - across) : len(chart.panels)
    ]:  # the last of each column
        axes.set_xlabel("confidence (%)", fontsize=9)
        axes.tick_params(labelbottom=True)
    figure.supylabel("of these images right (%)", fontsize=10)
    notes = ["area: share of the images; dotted: as often right as sure", *chart.notes]
    _entitle(figure, chart.title, notes)
    figure.legend(
        [
            Line2D([], [], color=c, marker="o", markerfacecolor=f)
            for c, f in zip(COLOURS, (COLOURS[0], "none"))
        ][: len(handles)],
        list(handles),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    return figure
