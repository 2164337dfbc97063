"""Which protocol a record is a result of: the protocols say so themselves."""

from pathlib import Path
from typing import Any

from tools.launching.state import setting
from tools.protocols import PROTOCOLS
from tools.reporting.models import training_of
from tools.reporting.result import Result
from tools.reporting.tested import Tested

SUBSETS = {"all": "all classes", "base": "the base classes", "new": "the new classes"}


def filed(path: Path, record: dict[str, Any], records: dict[Path, dict[str, Any]]) -> Result | None:
    """The result that a record is; None where its protocol does not count it.

    Args:
        records: all of them by their paths, among which that of the model's training is looked for.

    Raises:
        ValueError: it was not tested, or on what no protocol does; its model's record is not there or of another.
        KeyError: the record lacks something.
    """
    if not record["metrics"]:
        raise ValueError("not tested")
    tested = Tested(path, record, record)
    if tested.learns and tested.evaluates:
        tested = Tested(path, record, training_of(path, record, records) or record)
    if tested.without_training and tested.subset == "all":
        raise ValueError(f"the record of the model that it tests, {record['model_dir']}, is not there")
    for protocol in reversed(PROTOCOLS.values()):
        if place := protocol.place(tested):
            break
    else:
        raise ValueError(f"{_what(tested)}, which no protocol does")
    if not place.counts:
        return None
    return Result(
        path,
        protocol.name,
        record["trainer"],
        record["backbone"],
        setting(record["config"], "TEST.SPLIT") or "test",
        place.dataset or record["dataset"],
        tested.training["seed"],
        tested.training["shots"] if tested.learns else 0,
        place.source,
        place.at,
        tested.subset,
        record["metrics"]["accuracy"],
        record,
        tested.training,
    )


def _what(tested: Tested) -> str:
    trained = SUBSETS.get(tested.trained_subset, tested.trained_subset)
    if not tested.evaluates:
        return f"trained on {trained}"
    tested_on = SUBSETS.get(tested.subset, tested.subset)
    return (
        f"trained on {trained} of {tested.training['dataset']} and tested on "
        f"{tested_on} of {tested.record['dataset']}"
    )
