"""The figures of a report: accuracy over shots, prompt length and epochs as curves, all else as dots.

Dots and not bars: bars must begin at zero, where methods a point apart look alike.
"""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.reporting.collect import Result
from tools.reporting.protocol_tables import AVERAGE, base_to_new, over
from tools.reporting.selection import (
    Group,
    few_shot_results,
    groups,
    in_words,
    labels,
    of_protocol,
    ordered_methods,
    with_shots,
)
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
FAR = 1.5  # interquartile ranges from the quartiles: Tukey's fences


@dataclass
class Picture:
    """A figure, the name of its files and what it shows in words."""

    name: str
    title: str
    figure: Figure


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a method on a data set."""

    label: str
    method: str
    points: dict[int, Value]
    dashed: bool = False

    @property
    def numbers(self) -> list[float]:
        """What is drawn: where an average is not complete the line is interrupted."""
        return [math.nan if value.number is None else value.number for value in self.points.values()]

    @property
    def incomplete(self) -> bool:
        return any(value.remark for value in self.points.values())


def all_figures(results: list[Result], spread: str) -> Iterator[Picture]:
    """Every figure that there are results for."""
    grouped = groups(results)
    for group, chosen in grouped:
        style = styles(results)
        for picture in [
            *_base_to_new(group, chosen, spread, style),
            *_few_shot(group, chosen, spread, style),
            *_prompt_length(group, chosen, spread, style),
            *_overfitting(group, chosen, spread, style),
        ]:
            picture.name += f"_{group.ending}" if len(grouped) > 1 else ""
            yield picture


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


def _few_shot(group: Group, results: list[Result], spread: str, style: Style) -> Iterator[Picture]:
    chosen = few_shot_results(results)
    if not chosen:
        return
    if len({result.shots for result in chosen if result.learns}) < 2:
        yield _one_number_of_shots(group, chosen, spread, style)
        return
    title = f"Accuracy over shots, {group}"
    curves = _curves(chosen, lambda r: r.shots, spread)
    yield Picture("fewshot", title, _panels(curves, title, "training images per class", group, chosen, style))


def _one_number_of_shots(group: Group, results: list[Result], spread: str, style: Style) -> Picture:
    """Dots, where there is no curve to draw."""
    scope, places, values = over(results, lambda r: r.shots, spread)
    named = labels(results)
    panels = [AVERAGE, *scope.datasets] if len(scope.datasets) > 1 else list(scope.datasets)
    rows = [
        Dots(
            named[method] + ("" if learns or not places[-1] else " (no shots)"),
            method,
            [
                next((values[name, method, at] for at in places if (name, method, at) in values), Value())
                for name in panels
            ],
        )
        for method, learns in ordered_methods(results)
    ]
    title = f"Accuracy with {in_words(places[-1])}, {group}"
    return Picture("fewshot", title, _dots(rows, panels, title, group, results, style))


def _prompt_length(group: Group, results: list[Result], spread: str, style: Style) -> Iterator[Picture]:
    for shots, chosen in with_shots(of_protocol(results, "prompt_length")):
        title = f"Accuracy over prompt length, {in_words(shots)}, {group}"
        curves = _curves(chosen, lambda r: r.length, spread)
        figure = _panels(curves, title, "context tokens", group, chosen, style)
        yield Picture(f"prompt_length_{shots}shots", title, figure)


def _overfitting(group: Group, results: list[Result], spread: str, style: Style) -> Iterator[Picture]:
    for shots, chosen in with_shots(of_protocol(results, "overfitting")):
        title = f"Accuracy over epochs on base (solid) and new classes (dashed), {in_words(shots)}, {group}"
        panels: dict[str, list[Curve]] = {}
        for subset in ("base", "new"):
            of_subset = [result for result in chosen if result.subset == subset]
            found = _curves(of_subset, lambda r: r.epoch, spread, subset)
            for panel, curves in found.items():
                panels.setdefault(panel, []).extend(curves)
        figure = _panels(panels, title, "epoch", group, chosen, style)
        yield Picture(f"overfitting_{shots}shots", title, figure)


def _curves(
    results: list[Result], place: Callable[[Result], int], spread: str, subset: str = ""
) -> dict[str, list[Curve]]:
    """The curves of each data set, and their average first where there is more than one."""
    if not results:
        return {}
    scope, places, values = over(results, place, spread)
    names = (AVERAGE, *scope.datasets) if len(scope.datasets) > 1 else scope.datasets
    named = labels(results)
    return {
        name: [
            Curve(
                f"{named[method]}, {subset}" if subset else named[method],
                method,
                {at: values[name, method, at] for at in places if (name, method, at) in values},
                dashed=subset == "new",
            )
            for method, _ in ordered_methods(results)
        ]
        for name in names
    }


def _panels(
    panels: dict[str, list[Curve]],
    title: str,
    label: str,
    group: Group,
    results: list[Result],
    style: Style,
) -> Figure:
    """One panel for each data set, one line with its spread for each method; a single point is a star."""
    across = min(PANELS_IN_A_ROW, len(panels))
    down = math.ceil(len(panels) / across)
    shown = {
        c.label: textwrap.fill(c.label, LETTERS_IN_A_LABEL) for curves in panels.values() for c in curves
    }
    longest = max(len(line) for text in shown.values() for line in text.splitlines())
    width = max(5.0, 3.4 * across)
    columns = max(1, min(2 * across, len(shown), int(width / (LETTER * longest + 0.5))))
    lines = sum(
        sorted((text.count("\n") + 1 for text in shown.values()), reverse=True)[
            : math.ceil(len(shown) / columns)
        ]
    )
    figure = Figure(figsize=(width, 2.7 * down + 0.7 + LINE * lines), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    handles: dict[str, Any] = {}
    for axes, (name, curves) in zip(grid.flat, panels.items()):
        _draw(axes, curves, style, handles)
        axes.set_title(name, fontsize=10, fontweight="bold" if name == AVERAGE else "normal")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(label, fontsize=9)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.supylabel(group.accuracy, fontsize=10)
    _entitle(figure, title, group, results)
    figure.legend(
        list(handles.values()),
        [shown[name] for name in handles],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )
    return figure


def _entitle(figure: Figure, title: str, group: Group, results: list[Result]) -> None:
    """Put the title on top, in as many lines as the figure's width asks for, and what must be said below it."""
    lines = [title, *(f"({note})" for note in group.notes(results))]
    width = int(figure.get_figwidth() * LETTERS_IN_AN_INCH)
    text = "\n".join(textwrap.fill(line, width) for line in lines)
    figure.set_figheight(figure.get_figheight() + LINE * text.count("\n"))
    figure.suptitle(text, fontsize=11)


def _draw(axes: Axes, curves: list[Curve], style: Style, handles: dict[str, Any]) -> None:
    """Draw the curves of a panel, and say in words what is not in it: far out, or not complete."""
    drawn = [curve for curve in curves if not all(map(math.isnan, curve.numbers))]
    limits, out = _limits({curve.label: list(curve.points.values()) for curve in drawn})
    places = sorted({at for curve in curves for at in curve.points})
    for curve in drawn:
        own = dict(style[curve.method])
        if list(curve.points) == [0]:
            own |= {"marker": "*", "markersize": 9}
        line = axes.errorbar(
            list(curve.points),
            curve.numbers,
            yerr=[value.spread or math.nan for value in curve.points.values()],
            linestyle="--" if curve.dashed else "-",
            **{"linewidth": 1.3, "capsize": 2, "markersize": 4, **own},
        )
        handles.setdefault(curve.label, line)
    if out:
        axes.set_ylim(*limits)
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, integer=True))
    incomplete = dict.fromkeys(curve.method for curve in curves if curve.incomplete)
    said = [f"{'↓' if low else '↑'} {name} {_range(numbers)}" for name, (numbers, low) in sorted(out.items())]
    if incomplete:
        names = {curve.method: curve.label for curve in reversed(curves)}
        said.append("incomplete: " + ", ".join(names[method].removesuffix(", base") for method in incomplete))
    if said:
        text = "\n".join(textwrap.fill(line, LETTERS_IN_A_LABEL) for line in said)
        low, high = axes.get_ylim()  # leave room for what is said below the curves
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


@dataclass(frozen=True)
class Dots:
    """A method's row of dots: a value for each panel."""

    label: str
    method: str
    values: list[Value]


def _base_to_new(group: Group, results: list[Result], spread: str, style: Style) -> Iterator[Picture]:
    """The averages of the table."""
    tables = base_to_new(group, results, spread)
    for table, (_, chosen) in zip(tables, with_shots(of_protocol(results, "base", "new"))):
        methods = {label: method for method, label in labels(chosen).items()}
        rows = [
            Dots(row.label, methods[row.label], list(row.values))
            for row in table.rows
            if row.section == AVERAGE and not row.published
        ]
        if all(row.values[-1].number is None for row in rows):
            continue
        of = len({result.dataset for result in chosen})
        title = f"{table.title}: average of {of} data sets" if of > 1 else table.title
        yield Picture(table.name, table.title, _dots(rows, table.columns, title, group, chosen, style))


def _dots(
    rows: list[Dots],
    panels: Sequence[str],
    title: str,
    group: Group,
    results: list[Result],
    style: Style,
) -> Figure:
    """A panel for each value, a line for each method; what is far out stands at the edge, what is missing as words."""
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
    figure.supxlabel(group.accuracy, fontsize=10)
    _entitle(figure, title, group, results)
    return figure
