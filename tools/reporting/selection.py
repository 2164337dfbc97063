"""Which results go together: by protocol, backbone, split and shots; what methods are called, and the order of all."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from foundation.disclosures import DISCLOSURES
from runs import shipped
from runs.shipped import ELEVEN, VARIANTS
from tools.reporting.result import Result, method_name

# A bundled model's figures must never be taken for the method's.
TOY = {"mini"}
TOY_NOTE = "bundled toy model: shows that the software works, says nothing of the methods"
SPLITS = {"test": "test", "val": "validation"}


@dataclass(frozen=True)
class Group:
    """What is never mixed in a table or a figure: results of one backbone on images of one split."""

    backbone: str
    split: str = "test"

    def __str__(self) -> str:
        return self.backbone + ("" if self.split == "test" else f", {self.images}")

    @property
    def images(self) -> str:
        """Which images were tested, "test images"."""
        return f"{SPLITS.get(self.split, self.split)} images"

    @property
    def accuracy(self) -> str:
        """What an axis is called."""
        return f"{SPLITS.get(self.split, self.split)} accuracy (%)"

    @property
    def ending(self) -> str:
        """What its files' names end with where there are several groups."""
        name = self.backbone + ("" if self.split == "test" else f"_{self.split}")
        return re.sub(r"[^\w.+-]+", "-", name)

    def notes(self, results: Iterable[Result]) -> list[str]:
        """What must be said below every table and figure of `results`."""
        listed = list(results)
        said = [] if self.split == "test" else [f"of the {self.images}, not the test images"]
        said += disclosed(listed)
        said += of_one_setting(listed)
        return said + ([TOY_NOTE] if self.backbone in TOY else [])


def ordered_datasets(results: Iterable[Result]) -> tuple[str, ...]:
    """Names of the data sets in `results`, those of the benchmarks first, in their usual order."""
    usual = [shipped.registered_name(name) for name in ELEVEN + VARIANTS]
    names = {result.dataset for result in results}
    return tuple(sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name)))


def ordered_methods(results: Iterable[Result]) -> list[tuple[str, bool]]:
    """Methods and whether they learn, those that do not first."""
    return sorted(
        {(result.method, result.learns) for result in results}, key=lambda pair: (pair[1], _natural(pair[0]))
    )


def _natural(name: str) -> list[tuple[bool, float, str]]:
    """By numbers where there are numbers: N_CTX 4 before N_CTX 16."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", name)
    return [(i % 2 == 1, float(part) if i % 2 else 0.0, part) for i, part in enumerate(parts)]


def of_protocol(results: Iterable[Result], *protocols: str) -> list[Result]:
    """The results of some protocols."""
    return [result for result in results if result.protocol in protocols]


def with_shots(results: list[Result]) -> Iterator[tuple[int, list[Result]]]:
    """The results of each number of shots, those of methods that learn nothing with all of them."""
    numbers = sorted({result.shots for result in results if result.learns}) or [0]
    for shots in numbers if results else []:
        yield shots, [result for result in results if result.shots == shots or not result.learns]


def groups(results: Iterable[Result]) -> list[tuple[Group, list[Result]]]:
    """The results of each backbone and split: never mixed in a table."""
    found: dict[Group, list[Result]] = defaultdict(list)
    for result in results:
        found[Group(result.backbone, result.split)].append(result)
    return sorted(found.items(), key=lambda item: (item[0].backbone, item[0].split != "test", item[0].split))


def labels(results: Iterable[Result]) -> dict[str, str]:
    """Short names of methods: the trainer's, with those of its settings that differ among `results`."""
    variants: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for result in results:
        variants[result.trainer][result.method] = result.variant
    named = {}
    for trainer, of_trainer in variants.items():
        differing = _differing(of_trainer.values())
        for method, variant in of_trainer.items():
            named[method] = method_name(trainer, {key: variant[key] for key in variant if key in differing})
    return named


def disclosed(results: Iterable[Result]) -> list[str]:
    """What a reader of the numbers must know, and of which methods."""
    listed, said = list(results), []
    named = labels(listed)
    for name, text in DISCLOSURES.items():
        methods = sorted({named[result.method] for result in listed if name in result.disclosures})
        said += [f"{', '.join(methods)}: {text}"] if methods else []
    return said


def of_one_setting(results: Iterable[Result]) -> list[str]:
    """Which settings `labels` leaves out because among `results` there is but one value of them."""
    variants: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        variants[result.trainer].append(result.variant)
    said = []
    for trainer, of_trainer in sorted(variants.items()):
        differing = _differing(of_trainer)
        if common := {key: value for key, value in of_trainer[0].items() if key not in differing}:
            said.append(f"{trainer} is {method_name(trainer, common)}")
    return said


def _differing(variants: Iterable[dict[str, Any]]) -> set[str]:
    listed = list(variants)
    keys = {key for variant in listed for key in variant}
    return {key for key in keys if len({repr(variant.get(key)) for variant in listed}) > 1}


def few_shot_results(results: Iterable[Result]) -> list[Result]:
    """The few-shot results, on the data sets that something was trained on where there are any.

    Methods that learn nothing are also tested on the targets of a transfer, and for base-to-new among all classes.
    """
    results = list(results)
    chosen = of_protocol(results, "fewshot")
    trained = {result.dataset for result in chosen if result.learns}
    shown = {result.dataset for result in among_all_classes(results)}
    return [r for r in chosen if (r.dataset in trained if trained else r.dataset not in shown)]


def among_all_classes(results: Iterable[Result]) -> list[Result]:
    """Models of base classes tested on all classes, and what learns nothing, which few-shot learning tests so."""
    results = list(results)
    tested = [result for result in of_protocol(results, "base2new") if result.subset == "all"]
    datasets = {result.dataset for result in tested}
    fewshot = of_protocol(results, "fewshot")
    return tested + [result for result in fewshot if not result.learns and result.dataset in datasets]


def in_words(shots: int) -> str:
    """ "no shots", "1 shot", "16 shots"."""
    return {0: "no shots", 1: "1 shot"}.get(shots, f"{shots} shots")
