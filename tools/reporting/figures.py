"""The figures of a report: accuracy over shots, prompt length and epochs, and base against new classes."""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.reporting.collect import Result
from tools.reporting.protocol_tables import AVERAGE, base_to_new, over
from tools.reporting.selection import (
    TOY,
    TOY_NOTE,
    backbones,
    few_shot_results,
    in_words,
    of_protocol,
    ordered_methods,
    with_shots,
)
from tools.reporting.tables import Value

# Okabe and Ito's colours, which colour-blind people tell apart, then others of matplotlib's.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
COLOURS += [f"C{number}" for number in (3, 4, 5, 6, 7, 8)]
MARKERS = "osD^vP*Xph<>"  # of another number than the colours: the pairs repeat late
PANELS_IN_A_ROW = 4
MOST_TICKS = 6
LETTERS_IN_AN_INCH = 11  # of a title


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


def all_figures(results: list[Result], spread: str) -> Iterator[Picture]:
    """Every figure that there are results for."""
    groups = backbones(results)
    for backbone, chosen in groups:
        ending = f"_{backbone.replace('/', '-')}" if len(groups) > 1 else ""
        for picture in [
            *_base_to_new(backbone, chosen, spread),
            *_few_shot(backbone, chosen, spread),
            *_prompt_length(backbone, chosen, spread),
            *_overfitting(backbone, chosen, spread),
        ]:
            picture.name += ending
            yield picture


def styles(results: list[Result]) -> dict[str, dict[str, Any]]:
    """The same colour and marker for a method in every figure of a report."""
    names = [method for method, _ in ordered_methods(results)]
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names)
    }


def _few_shot(backbone: str, results: list[Result], spread: str) -> Iterator[Picture]:
    chosen = few_shot_results(results)
    if not chosen:
        return
    if len({result.shots for result in chosen if result.learns}) < 2:
        yield _one_number_of_shots(backbone, chosen, spread)
        return
    title = f"Accuracy over shots, {backbone}"
    curves = _curves(chosen, lambda r: r.shots, spread)
    figure = _panels(curves, title, "training images per class", backbone, styles(results))
    yield Picture("fewshot", title, figure)


def _one_number_of_shots(backbone: str, results: list[Result], spread: str) -> Picture:
    """Bars, where there is no curve to draw."""
    scope, places, values = over(results, lambda r: r.shots, spread)
    columns = [AVERAGE, *scope.datasets] if len(scope.datasets) > 1 else list(scope.datasets)
    bars = {
        method: [
            next((values[name, method, at] for at in places if (name, method, at) in values), Value())
            for name in columns
        ]
        for method, _ in ordered_methods(results)
    }
    title = f"Accuracy with {in_words(places[-1])}, {backbone}"
    return Picture(
        "fewshot", title, _bars(bars, columns, "test accuracy (%)", title, backbone, styles(results))
    )


def _prompt_length(backbone: str, results: list[Result], spread: str) -> Iterator[Picture]:
    for shots, chosen in with_shots(of_protocol(results, "prompt_length")):
        title = f"Accuracy over prompt length, {in_words(shots)}, {backbone}"
        curves = _curves(chosen, lambda r: r.length, spread)
        figure = _panels(curves, title, "context tokens", backbone, styles(results))
        yield Picture(f"prompt_length_{shots}shots", title, figure)


def _overfitting(backbone: str, results: list[Result], spread: str) -> Iterator[Picture]:
    for shots, chosen in with_shots(of_protocol(results, "overfitting")):
        title = (
            f"Accuracy over epochs on base (solid) and new classes (dashed), {in_words(shots)}, {backbone}"
        )
        panels: dict[str, list[Curve]] = {}
        for subset in ("base", "new"):
            of_subset = [result for result in chosen if result.subset == subset]
            found = _curves(of_subset, lambda r: r.epoch, spread, dashed=subset == "new")
            for panel, curves in found.items():
                panels.setdefault(panel, []).extend(curves)
        figure = _panels(panels, title, "epoch", backbone, styles(results))
        yield Picture(f"overfitting_{shots}shots", title, figure)


def _curves(
    results: list[Result], place: Callable[[Result], int], spread: str, dashed: bool = False
) -> dict[str, list[Curve]]:
    """The curves of each data set, and their average first where there is more than one."""
    if not results:
        return {}
    scope, places, values = over(results, place, spread)
    names = (AVERAGE, *scope.datasets) if len(scope.datasets) > 1 else scope.datasets
    return {
        name: [
            Curve(
                f"{method}, {'new' if dashed else 'base'}"
                if results[0].protocol == "overfitting"
                else method,
                method,
                {at: values[name, method, at] for at in places if (name, method, at) in values},
                dashed,
            )
            for method, _ in ordered_methods(results)
        ]
        for name in names
    }


def _panels(
    panels: dict[str, list[Curve]], title: str, label: str, backbone: str, style: dict[str, dict[str, Any]]
) -> Figure:
    """One panel for each data set, one line with its spread for each method; a single point is a star."""
    across = min(PANELS_IN_A_ROW, len(panels))
    down = math.ceil(len(panels) / across)
    figure, grid = plt.subplots(
        down, across, figsize=(max(5.0, 3.4 * across), 2.7 * down + 1.1), squeeze=False, layout="constrained"
    )
    handles: dict[str, Any] = {}
    for axes, (name, curves) in zip(grid.flat, panels.items()):
        missing = _draw(axes, curves, style, handles)
        axes.set_title(name, fontsize=10, fontweight="bold" if name == AVERAGE else "normal")
        if missing:
            axes.text(
                0.98,
                0.03,
                f"incomplete:\n{missing}",
                transform=axes.transAxes,
                ha="right",
                fontsize=7,
                color="firebrick",
            )
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(label, fontsize=9)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.supylabel("test accuracy (%)", fontsize=10)
    _entitle(figure, title, backbone)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(len(handles), 2 * across),
        frameon=False,
        fontsize=9,
    )
    return figure


def _entitle(figure: Figure, title: str, backbone: str) -> None:
    """Put the title on top, in as many lines as the figure's width asks for."""
    lines = [title, *([f"({TOY_NOTE})"] if backbone in TOY else [])]
    width = int(figure.get_figwidth() * LETTERS_IN_AN_INCH)
    figure.suptitle("\n".join(textwrap.fill(line, width) for line in lines), fontsize=11)


def _draw(axes: Axes, curves: list[Curve], style: dict[str, dict[str, Any]], handles: dict[str, Any]) -> str:
    """Draw the curves of a panel; returns what is not in it because it is not complete."""
    places = sorted({at for curve in curves for at in curve.points})
    missing = []
    for curve in curves:
        if any(value.remark for value in curve.points.values()):
            missing.append(curve.method)
        # Where an average is not complete the line is interrupted.
        numbers = [math.nan if value.number is None else value.number for value in curve.points.values()]
        if all(map(math.isnan, numbers)):
            continue
        own = dict(style[curve.method])
        if list(curve.points) == [0]:
            own |= {"marker": "*", "markersize": 9}
        line = axes.errorbar(
            list(curve.points),
            numbers,
            yerr=[value.spread or math.nan for value in curve.points.values()],
            linestyle="--" if curve.dashed else "-",
            **{"linewidth": 1.3, "capsize": 2, "markersize": 4, **own},
        )
        handles.setdefault(curve.label, line)
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, integer=True))
    return ", ".join(dict.fromkeys(missing))


def _base_to_new(backbone: str, results: list[Result], spread: str) -> Iterator[Picture]:
    """The averages of the table as bars."""
    for table in base_to_new(backbone, results, spread):
        bars = {
            row.label: list(row.values) for row in table.rows if row.section == AVERAGE and not row.published
        }
        if all(values[-1].number is None for values in bars.values()):
            continue
        label = "test accuracy (%), average of the data sets"
        figure = _bars(bars, table.columns, label, table.title, backbone, styles(results))
        yield Picture(table.name, table.title, figure)


def _bars(
    bars: dict[str, list[Value]],
    columns: Sequence[str],
    label: str,
    title: str,
    backbone: str,
    style: dict[str, dict[str, Any]],
) -> Figure:
    """A group of bars for each column, a colour for each method; what is not complete has no bar."""
    missing = [method for method, values in bars.items() if any(v.number is None for v in values)]
    bars = {method: values for method, values in bars.items() if any(v.number is not None for v in values)}
    width = 0.8 / max(1, len(bars))
    figure, axes = plt.subplots(
        figsize=(max(6.0, 1.2 + 0.3 * len(bars) * len(columns)), 4.2), layout="constrained"
    )
    for number, (method, values) in enumerate(bars.items()):
        drawn = axes.bar(
            [place + (number - (len(bars) - 1) / 2) * width for place in range(len(columns))],
            [math.nan if value.number is None else value.number for value in values],
            width * 0.92,
            yerr=[value.spread or math.nan for value in values],
            color=style[method]["color"],
            label=method,
            capsize=2,
        )
        if len(bars) <= 6:
            labels = ["" if value.number is None else f"{value.number:.1f}" for value in values]
            axes.bar_label(drawn, labels, padding=2, fontsize=7)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylabel(label)
    axes.set_ylim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    if missing:
        axes.set_title(f"incomplete: {', '.join(missing)}", fontsize=8, color="firebrick")
    _entitle(figure, title, backbone)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure
