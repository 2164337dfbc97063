"""Runs of one method with different settings: which settings tell them apart."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

from foundation.identity import NOT_OF_THE_RESULT, differences
from tools.launching.state import setting
from tools.reporting.result import Result

# Settings that an evaluation of a loaded model has, and that say nothing of it.
OF_TRAINING = ("SEED", "DATASET.NUM_SHOTS", "OPTIM.", "TRAIN.", "DATALOADER.TRAIN")
NOT_OF_THE_METHOD = NOT_OF_THE_RESULT | {"DATASET.ROOT"}  # the folder of own images makes another data set


def name_variants(results: list[Result]) -> None:
    """Where one cell holds runs of one trainer with different settings, these become its results' variants.

    Settings are those of the training and those of the test: a test of a loaded model need not repeat the former.
    """
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.trainer, result.backbone].append(result)
    for group in groups.values():
        cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
        for result in group:
            cells[result.cell].append(result)
        pairs = [pair for cell in cells.values() for pair in combinations(cell, 2)]
        in_training = _varying((a.training, b.training) for a, b in pairs)
        in_test = _varying((a.record, b.record) for a, b in pairs) - in_training
        in_test = {key for key in in_test if not key.startswith(OF_TRAINING)}
        for result in group:
            result.variant = {key: setting(result.training["config"], key) for key in sorted(in_training)}
            result.variant |= {key: setting(result.record["config"], key) for key in sorted(in_test)}
            if any(_loaded(a) != _loaded(b) for a, b in pairs):
                result.variant["LOAD_EPOCH"] = _loaded(result)


def _varying(pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> set[str]:
    """The settings that two records of one cell both have, with different values."""
    return {
        difference.partition(":")[0]
        for a, b in pairs
        if a is not b
        for difference in differences(
            a["config"], b["config"], NOT_OF_THE_METHOD, a.get("scores_batches", False)
        )
    }


def _loaded(result: Result) -> int | None:
    """The epoch of the model that was tested, None for the last one."""
    epoch = result.record.get("load_epoch")
    last = setting(result.training["config"], "OPTIM.MAX_EPOCH")
    return None if str(epoch) == str(last) else epoch
