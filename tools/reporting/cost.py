"""What training costs: a table of parameters, seconds and memory."""

from collections.abc import Iterator
from statistics import median
from typing import Any

from tools.reporting.result import Result
from tools.reporting.selection import Group, in_words, labels, of_protocol, ordered_datasets, ordered_methods
from tools.reporting.tables import Row, Table, Value

# Whose trainings are shown, and what of a data set they are on.
TRAININGS = {"fewshot": "", "base2new": ", base classes"}


def cost(group: Group, results: list[Result], spread: str) -> Iterator[Table]:
    """What training costs, of the largest number of shots: medians over seeds."""
    trained = [r for r in of_protocol(results, *TRAININGS) if r.learns and r.record["kind"] == "train"]
    if not trained:
        return
    most = max(result.shots for result in trained)
    trained = [result for result in trained if result.shots == most]
    rows, named = [], labels(trained)
    for protocol, what in TRAININGS.items():
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


def _median(numbers: list[float | None], factor: float, digits: int) -> Value:
    known = [number for number in numbers if number is not None]
    return Value(median(known) * factor, digits=digits) if known else Value(remark="not measured")
