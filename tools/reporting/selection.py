"""Which results go together: by protocol, backbone and shots, and the order of data sets and methods."""

from collections.abc import Iterable, Iterator

from runs import shipped
from tools.launching.grid import ELEVEN, VARIANTS
from tools.reporting.collect import Result

# A bundled model's figures must never be taken for the method's.
TOY = {"mini"}
TOY_NOTE = "bundled toy model: shows that the software works, says nothing of the methods"


def ordered_datasets(results: Iterable[Result]) -> tuple[str, ...]:
    """Names of the data sets in `results`, those of the benchmarks first, in their usual order."""
    usual = [shipped.registered_name(name) for name in ELEVEN + VARIANTS]
    names = {result.dataset for result in results}
    return tuple(sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name)))


def ordered_methods(results: Iterable[Result]) -> list[tuple[str, bool]]:
    """Methods and whether they learn, those that do not first."""
    return sorted({(result.method, result.learns) for result in results}, key=lambda pair: (pair[1], pair[0]))


def of_protocol(results: Iterable[Result], *protocols: str) -> list[Result]:
    """The results of some protocols."""
    return [result for result in results if result.protocol in protocols]


def with_shots(results: list[Result]) -> Iterator[tuple[int, list[Result]]]:
    """The results of each number of shots, those of methods that learn nothing with all of them."""
    numbers = sorted({result.shots for result in results if result.learns}) or [0]
    for shots in numbers if results else []:
        yield shots, [result for result in results if result.shots == shots or not result.learns]


def backbones(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    """The results of each backbone: never mixed in a table."""
    listed = list(results)
    names = sorted({result.backbone for result in listed})
    return [(name, [result for result in listed if result.backbone == name]) for name in names]


def few_shot_results(results: Iterable[Result]) -> list[Result]:
    """The few-shot results, on the data sets that something was trained on where there are any.

    Methods that learn nothing are also tested on the targets of a transfer.
    """
    chosen = of_protocol(results, "fewshot")
    trained = {result.dataset for result in chosen if result.learns}
    return [result for result in chosen if not trained or result.dataset in trained]


def in_words(shots: int) -> str:
    """ "no shots", "1 shot", "16 shots"."""
    return {0: "no shots", 1: "1 shot"}.get(shots, f"{shots} shots")
