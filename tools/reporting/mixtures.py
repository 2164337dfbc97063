"""Warnings about results that should not stand in one table: of different code, weights, draws or test images."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tools.reporting.result import Result


def mixtures(results: list[Result]) -> list[str]:
    """Warnings about results that should not stand in one table: of different code, weights or draws."""
    warnings = []
    commits = _count(result.record.get("versions", {}).get("commit") for result in results)
    if len(commits) > 1:
        warnings.append(f"runs of different code are mixed: {_listed(commits)}")
    elif any(str(commit).endswith("-dirty") for commit in commits):
        warnings.append("the code had uncommitted changes, so all runs may not be of the same code")
    by_backbone: dict[str, list[Any]] = defaultdict(list)
    draws: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    drawn_for: dict[tuple[Any, ...], set[tuple[int, int]]] = defaultdict(set)  # (shots, seed) of a draw
    images: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for result in results:
        images[result.dataset, result.subset, result.split].append(result.record["metrics"].get("images"))
        by_backbone[result.backbone].append(result.record.get("backbone_hash"))
        if result.learns and result.record["kind"] == "train":
            draws[result.dataset, result.subset, result.shots, result.seed].append(
                result.record.get("few_shot_hash")
            )
            if few_shot := result.record.get("few_shot_hash"):
                drawn_for[result.dataset, result.subset, few_shot].add((result.shots, result.seed))
    for backbone, hashes in by_backbone.items():
        if len(counted := _count(hashes)) > 1:
            warnings.append(f"runs with different weights of {backbone} are mixed: {_listed(counted)}")
    for (dataset, subset, _), found in images.items():
        if len(counted := _count(found)) > 1:
            warnings.append(
                f"{dataset}{_which(subset)}: not all were tested on as many images: {_listed(counted)}"
            )
    for (dataset, subset, _), drawn in drawn_for.items():
        numbers, seeds = ({pair[i] for pair in drawn} for i in (0, 1))
        if len(numbers) > 1:
            listed = " and ".join(map(str, sorted(numbers)))
            warnings.append(f"{dataset}{_which(subset)}: {listed} shots are the same images")
        elif len(seeds) > 1 and min(numbers) > 0:  # 0 and less: all images, whatever the seed
            listed = " and ".join(map(str, sorted(seeds)))
            warnings.append(
                f"{dataset}{_which(subset)}: {min(numbers)} shots of seeds {listed} are the same images"
            )
    for (dataset, subset, shots, seed), hashes in draws.items():
        if len(counted := _count(hashes)) > 1:
            warnings.append(
                f"{dataset}{_which(subset)}: the methods did not see the same {shots} shots of seed {seed}: "
                f"{_listed(counted)}"
            )
    return warnings


def _which(subset: str) -> str:
    return "" if subset == "all" else f" ({subset} classes)"


def _count(values: Iterable[Any]) -> dict[Any, int]:
    counted: dict[Any, int] = {}
    for value in values:
        counted[value] = counted.get(value, 0) + 1
    return counted


def _listed(counted: dict[Any, int]) -> str:
    def short(value: Any) -> str:
        text = str(value)
        dirty = "-dirty" if text.endswith("-dirty") else ""
        return text.removesuffix("-dirty")[:8] + dirty

    return ", ".join(
        f"{short(value)} ({number} run{'s' * (number != 1)})" for value, number in counted.items()
    )
