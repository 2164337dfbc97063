"""What was tried on validation images to choose the settings of what was tested: a table of it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from statistics import mean

from tools.launching.search import said
from tools.reporting.result import Result
from tools.reporting.selection import SPLITS, Group, in_words, labels
from tools.reporting.stats import SPREADS
from tools.reporting.stats import spread as spread_of
from tools.reporting.tables import Row, Table, Value


def searches(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """All combinations of settings that were chosen from, with their accuracy on validation images.

    Every test of a choice tells of it; a search is shown once.
    """
    named = labels(results)
    found = {
        (
            result.source or result.dataset,
            named[result.method],
            result.shots,
            json.dumps(result.record["search"]),
        ): result.record["search"]
        for result in results
        if "search" in result.record
    }
    rows, several = [], False
    for (dataset, method, shots, _), search in sorted(found.items(), key=lambda item: item[0]):
        accuracies: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for tried in search["tried"]:
            accuracies[_pairs(tried["settings"])].append(tried["accuracy"])
        for pairs, values in accuracies.items():
            chosen = " (chosen)" if pairs == _pairs(search["chosen"]) else ""
            several = several or len(values) > 1
            label = f"{method}, {in_words(shots)}, {said(pairs)}{chosen}"
            rows.append(Row(dataset, label, (Value(mean(values), spread_of(values, spread)),)))
    if rows:
        column = f"{SPLITS['val']} accuracy"
        yield Table(
            "search",
            f"Settings chosen on validation images, {group}",
            "data set",
            (column,),
            tuple(rows),
            (
                f"mean over seeds{f' ± {SPREADS[spread]}' if several else ''}; only what is chosen was tested",
                *group.notes(result for result in results if "search" in result.record),
            ),
            unranked=frozenset({column}),
        )


def _pairs(settings: dict[str, str]) -> tuple[str, ...]:
    return tuple(part for pair in settings.items() for part in pair)
