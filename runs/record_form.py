"""What values of a record may be: a file that somebody has edited is not taken for a result."""

import math
from collections.abc import Callable
from typing import Any

from runs.search import is_search


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_at_least_0(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_percentage(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 100


def _or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _has(**parts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A dictionary with these entries, and perhaps with others."""
    return lambda value: (
        isinstance(value, dict) and all(holds(value.get(name)) for name, holds in parts.items())
    )


def _is_per_class(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and _is_text(row.get("class"))
        and _is_percentage(row.get("accuracy"))
        and _is_whole(row.get("images"))
        for row in value
    )


def _is_reliability(value: Any) -> bool:
    share = _or_null(_is_percentage)
    is_bin = _has(images=_is_count, accuracy=share, confidence=share)
    return isinstance(value, list) and all(map(is_bin, value))


_FIGURES = {
    "ece": _is_percentage,
    "nll": _or_null(_is_at_least_0),
    "brier": _is_at_least_0,
    "reliability": _is_reliability,
}


#: What values of a record may be: a file that somebody has edited is not taken for a result.
FORM: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: value in ("train", "eval"),
    **dict.fromkeys(("trainer", "dataset", "backbone"), _is_text),
    **dict.fromkeys(("seed", "shots", "trainable_parameters"), _is_whole),
    "learns": lambda value: isinstance(value, bool),
    "disclosures": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    **dict.fromkeys(("config", "time"), lambda value: isinstance(value, dict)),
    "metrics": lambda value: value is None or isinstance(value, dict),
    **dict.fromkeys(
        (f"metrics.{name}" for name in ("accuracy", "error_rate", "macro_f1", "macro_accuracy")),
        _is_percentage,
    ),
    "metrics.images": _is_whole,
    "metrics.per_class": _is_per_class,
    "metrics.halves": _or_null(_has(base=_is_percentage, new=_is_percentage)),
    "metrics.probabilities": _or_null(_has(**_FIGURES)),
    "metrics.temperature": _or_null(
        _has(value=_is_at_least_0, images=_is_count, source=_is_text, **_FIGURES)
    ),
    "metrics.other_images": _or_null(
        _has(folder=_is_text, images=_is_count, auroc=_is_percentage, fpr95=_is_percentage)
    ),
    **dict.fromkeys(("time.started", "time.finished"), _is_text),
    **dict.fromkeys(("time.setup_seconds", "time.run_seconds"), _is_number),
    "search": is_search,
    "time.step_seconds": lambda value: value is None or _is_number(value),
}
