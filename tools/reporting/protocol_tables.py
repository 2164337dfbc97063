"""The tables of a report: one function for each protocol, from results to tables."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

from tools.reporting import published
from tools.reporting.averages import Scope, accuracies, scope_of
from tools.reporting.collect import Result
from tools.reporting.comparison import comparison
from tools.reporting.published import Published
from tools.reporting.selection import (
    Group,
    few_shot_results,
    groups,
    in_words,
    labels,
    of_protocol,
    ordered_datasets,
    ordered_methods,
    with_shots,
)
from tools.reporting.stats import SPREADS
from tools.reporting.tables import Row, Table, Value

AVERAGE = "Average"
# Tests of a model under other conditions than those of its data set.
VARIANTS_OF = {
    "ImageNet": published.VARIANTS,
    "Shapes": ("ShapesBackgrounds", "ShapesSketch", "ShapesNoise"),
}


def notes(group: Group, scope: Scope, results: list[Result], *more: str) -> tuple[str, ...]:
    """What stands below every table."""
    seeds = sorted(scope.seeds)
    said = "accuracy in percent" + (f"; mean of {len(seeds)} seed{'s' * (len(seeds) > 1)}" if seeds else "")
    said += f" ± {SPREADS[scope.spread]}" if len(seeds) > 1 else ""
    return (said, *more, *group.notes(results))


def base_to_new(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Base and new accuracy and H, average first; one table for each number of shots."""
    for shots, chosen in with_shots(of_protocol(results, "base", "new")):
        datasets = ordered_datasets(chosen)
        scope, named = scope_of(chosen, datasets, spread), labels(chosen)
        parts = {
            method: tuple(
                accuracies(r for r in chosen if r.method == method and r.protocol == part)
                for part in ("base", "new")
            )
            for method, _ in ordered_methods(chosen)
        }
        with_published = (group, shots) == (Group(published.BACKBONE), published.SHOTS)
        rows = []
        for method, learns in ordered_methods(chosen):
            base, new = parts[method]
            average = (
                scope.average(base, learns),
                scope.average(new, learns),
                scope.harmonic(base, new, learns, datasets),
            )
            rows.append(Row(AVERAGE, named[method], average))
        if with_published and set(datasets) == {"ImageNet", *published.CROSS_DATASETS}:
            rows += _published_rows(AVERAGE, published.BASE_TO_NEW)
        for dataset in datasets:
            for method, learns in ordered_methods(chosen):
                base, new = parts[method]
                values = tuple(scope.of_dataset(part.get(dataset, {}), learns) for part in (base, new))
                rows.append(
                    Row(dataset, named[method], (*values, scope.harmonic(base, new, learns, [dataset])))
                )
            if with_published:
                rows += _published_rows(dataset, published.BASE_TO_NEW_ON.get(dataset, ()))
        unlearned = [named[method] for method, learns in ordered_methods(chosen) if not learns]
        said = ["H is the harmonic mean of the mean base and the mean new accuracy"]
        said += [f"of no shots: {', '.join(unlearned)}"] if unlearned and shots else []
        yield Table(
            f"base2new_{shots}shots",
            f"Base-to-new generalisation, {in_words(shots)}, {group}",
            "data set",
            ("Base", "New", "H"),
            tuple(rows),
            notes(group, scope, chosen, *said),
        )


def few_shot(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Accuracy over shots, average first."""
    chosen = few_shot_results(results)
    if chosen:
        yield _over(
            "fewshot", f"Few-shot learning, {group}", "shot", lambda r: r.shots, group, chosen, spread
        )


def prompt_length(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Accuracy over the number of context tokens, average first."""
    for shots, chosen in with_shots(of_protocol(results, "prompt_length")):
        title = f"Accuracy over prompt length, {in_words(shots)}, {group}"
        name = f"prompt_length_{shots}shots"
        yield _over(name, title, "token", lambda r: r.length, group, chosen, spread)


def overfitting(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """Accuracy over epochs on base and on new classes, average first."""
    for shots, of_shots in with_shots(of_protocol(results, "overfitting")):
        for subset in ("base", "new"):
            chosen = [result for result in of_shots if result.subset == subset]
            if chosen:
                title = f"Accuracy over epochs on the {subset} classes, {in_words(shots)}, {group}"
                name = f"overfitting_{subset}_{shots}shots"
                yield _over(name, title, "epoch", lambda r: r.epoch, group, chosen, spread)


def over(
    results: list[Result], place: Callable[[Result], int], spread: str
) -> tuple[Scope, list[int], dict[tuple[str, str, int], Value]]:
    """Accuracy over something: values by (data set or "Average", method, place), for a table or curves."""
    datasets = ordered_datasets(results)
    # A place that only some data sets have (ten epochs here, twenty there) has no average over all of them.
    scope = scope_of(results, datasets, spread)
    places = sorted({place(result) for result in results})
    values: dict[tuple[str, str, int], Value] = {}
    for method, learns in ordered_methods(results):
        for at in places:
            here = accuracies(r for r in results if r.method == method and place(r) == at)
            if here:
                values[AVERAGE, method, at] = scope.average(here, learns)
            for dataset, by_seed in here.items():
                values[dataset, method, at] = scope.of_dataset(by_seed, learns)
    return scope, places, values


def _over(
    name: str,
    title: str,
    unit: str,
    place: Callable[[Result], int],
    group: Group,
    results: list[Result],
    spread: str,
) -> Table:
    scope, places, values = over(results, place, spread)
    named = labels(results)
    rows = [
        Row(section, named[method], tuple(values.get((section, method, at), Value()) for at in places))
        for section in (AVERAGE, *scope.datasets)
        for method, _ in ordered_methods(results)
    ]
    columns = tuple(f"{at} {unit}{'s' * (at != 1)}" for at in places)
    return Table(name, title, "data set", columns, tuple(rows), notes(group, scope, results))


def transfer(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """A source's models on other data sets, and on variants of the source, each with the targets' average."""
    tested = of_protocol(results, "transfer")
    learned_nothing = [r for r in of_protocol(results, "fewshot") if not r.learns]
    for source in sorted({result.source for result in tested}):
        of_source = [result for result in tested if result.source == source]
        variants = VARIANTS_OF.get(source, ())
        for shots in sorted({result.shots for result in of_source}):
            for domains in (False, True):
                targets = [r for r in of_source if r.shots == shots and (r.dataset in variants) == domains]
                if not targets:
                    continue
                datasets = ordered_datasets(targets)
                own = [
                    r
                    for r in of_protocol(results, "fewshot")
                    if r.dataset == source and r.shots == shots and r.learns
                ]
                chosen = targets + [r for r in learned_nothing if r.dataset in (source, *datasets)] + own
                yield _transfer_table(group, chosen, spread, source, shots, datasets, domains)


def _transfer_table(
    group: Group,
    results: list[Result],
    spread: str,
    source: str,
    shots: int,
    datasets: tuple[str, ...],
    domains: bool,
) -> Table:
    scope, named = scope_of(results, datasets, spread), labels(results)
    rows = []
    for method, learns in ordered_methods(results):
        found = accuracies(r for r in results if r.method == method)
        if not any(name in found for name in datasets):
            continue
        values = [scope.of_dataset(found.get(name, {}), learns) for name in (source, *datasets)]
        targets = {name: found[name] for name in datasets if name in found}
        rows.append(Row("", named[method], (*values, scope.average(targets, learns))))
    usual, literature = (
        (published.VARIANTS, published.DOMAINS)
        if domains
        else (published.CROSS_DATASETS, published.CROSS_DATASET)
    )
    if (group, source, shots, datasets) == (Group(published.BACKBONE), "ImageNet", published.SHOTS, usual):
        rows += _published_rows("", literature)
    name, title = ("dg", "Domain generalisation") if domains else ("xd", "Cross-data-set transfer")
    return Table(
        f"{name}_{source}_{shots}shots",
        f"{title} from {source}, {in_words(shots)}, {group}",
        "",
        (source, *datasets, AVERAGE),
        tuple(rows),
        notes(group, scope, results, f"{AVERAGE} is that of the targets, without {source}"),
    )


def cost(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """What training costs, of the largest number of shots: medians over seeds."""
    trained = [r for r in of_protocol(results, "fewshot", "base") if r.learns and r.record["kind"] == "train"]
    if not trained:
        return
    most = max(result.shots for result in trained)
    trained = [result for result in trained if result.shots == most]
    rows, named = [], labels(trained)
    for protocol, what in (("fewshot", ""), ("base", ", base classes")):
        runs = [result for result in trained if result.protocol == protocol]
        for dataset in ordered_datasets(runs):
            for method, _ in ordered_methods(runs):
                records = [r.record for r in runs if (r.dataset, r.method) == (dataset, method)]
                if records:
                    values = (
                        Value(median(r["trainable_parameters"] for r in records), digits=0),
                        _median([r["time"].get("step_seconds") for r in records], 1000, 1),
                        _median([r["time"]["run_seconds"] for r in records], 1, 1),
                        _median([r["peak_memory"]["bytes"] for r in records], 2**-20, 0),
                    )
                    rows.append(Row(dataset + what, named[method], values))
    of = sorted({r.record["peak_memory"]["of"] for r in trained})
    memory = {"cuda": "allocated on the GPU", "process": "resident memory of the process, libraries included"}
    hardware = sorted({_hardware(r.record) for r in trained})
    columns = ("parameters", "ms a step", "s a run", "peak MiB")
    yield Table(
        "cost",
        f"Cost of training, {in_words(most)}, {group}",
        "data set",
        columns,
        tuple(rows),
        (
            "median over seeds; a run includes its evaluation",
            f"peak memory: {' or '.join(memory.get(one, one) for one in of)}",
            *([f"measured on different hardware: {'; '.join(hardware)}"] if len(hardware) > 1 else []),
            *group.notes(trained),
        ),
        unranked=frozenset(columns),
    )


def _hardware(record: dict[str, Any]) -> str:
    known = record.get("hardware", {})
    return ", ".join(known.get("gpus") or []) or f"{known.get('cpu') or 'an unnamed CPU'}"


def _published_rows(section: str, rows: Iterable[Published]) -> list[Row]:
    return [Row(section, row.method, tuple(map(Value, row.values)), published=row.source) for row in rows]


def _median(numbers: list[float | None], factor: float, digits: int) -> Value:
    known = [number for number in numbers if number is not None]
    return Value(median(known) * factor, digits=digits) if known else Value(remark="not measured")


def all_tables(results: list[Result], spread: str, reference: str | None) -> list[Table]:
    """Every table that there are results for; with several backbones or splits the names of their files say which.

    ValueError for a `reference` that no backbone has.
    """
    found: list[Table] = []
    grouped = groups(results)
    unknown: list[ValueError] = []
    for group, of_group in grouped:
        tables = [
            table
            for make in (base_to_new, few_shot, transfer, prompt_length, overfitting, cost)
            for table in make(group, of_group, spread)
        ]
        try:
            tables += comparison(group, of_group, reference)
        except ValueError as error:  # another group may have the reference
            unknown.append(error)
        found += tables if len(grouped) == 1 else [_renamed(table, group) for table in tables]
    if len(unknown) == len(grouped):
        raise unknown[0]
    return found


def _renamed(table: Table, group: Group) -> Table:
    return replace(table, name=f"{table.name}_{group.ending}")
