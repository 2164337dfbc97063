"""What a config key is: its default, the values that it may have, and one line of what it means."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yacs.config import CfgNode


@dataclass(frozen=True)
class Allowed:
    """The values that a key may have.

    Attributes:
        holds: whether a value of the default's type is one of them.
        says: the rest of "KEY is VALUE, ...", e.g. "1 or more is needed".
        short: the same for a list of keys, e.g. "1 or more".
    """

    holds: Callable[[Any], bool]
    says: str
    short: str


@dataclass(frozen=True)
class Key:
    """One key of the config.

    Attributes:
        default: decides the type, too.
        what: one line of what it is.
        allowed: None for any value of the type.
        is_path: a file or folder, in which ``~`` stands for the home folder.
    """

    default: Any
    what: str
    allowed: Allowed | None = None
    is_path: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, with the name, the value and what is allowed, where ``value`` is of another kind."""
        if not _is_alike(value, self.default):
            raise ValueError(f"{name} is {value!r}, {_KINDS[type(self.default)]} is needed")
        if self.allowed is not None and not self.allowed.holds(value):
            raise ValueError(f"{name} is {value!r}, {self.allowed.says}")
        if self.allowed is None and isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, a finite number is needed")


def declare(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Write ``keys`` (by their whole names, "TRAINER.COOP.N_CTX") with their defaults into ``cfg``."""
    for name, key in keys.items():
        *sections, last = name.split(".")
        node = cfg
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[last] = copy.deepcopy(key.default)


def check(cfg: Mapping[str, Any], keys: Mapping[str, Key]) -> None:
    """Raise ValueError for the first of ``keys`` whose value in ``cfg`` is not allowed; one that is absent passes."""
    for name, key in keys.items():
        node: Any = cfg
        for part in name.split("."):
            node = node.get(part, _ABSENT) if isinstance(node, Mapping) else _ABSENT
        if node is not _ABSENT:
            key.check(name, node)


def value(cfg: Mapping[str, Any], name: str, keys: Mapping[str, Key]) -> Any:
    """The value of a key in ``cfg``, or its default where who made ``cfg`` does not know it (a train.py of others)."""
    node: Any = cfg
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return copy.deepcopy(keys[name].default)
        node = node[part]
    return node


def tree(keys: Mapping[str, Key]) -> dict[str, Any]:
    """The defaults as nested dictionaries."""
    nested: dict[str, Any] = {}
    for name, key in keys.items():
        *sections, last = name.split(".")
        node = nested
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = copy.deepcopy(key.default)
    return nested


def one_of(*values: Any) -> Allowed:
    """Names, or other values that are counted one by one."""
    names = ", ".join(map(str, values))
    return Allowed(lambda value: value in values, f"choose from: {names}", names)


def at_least(least: float) -> Allowed:
    return _numbers(lambda value: value >= least, f"{least:g} or more")


def at_most(most: float) -> Allowed:
    return _numbers(lambda value: value <= most, f"{most} or less")


def above(bound: float) -> Allowed:
    return _numbers(lambda value: value > bound, f"more than {bound:g}")


def between(least: float, most: float, below: bool = False) -> Allowed:
    """``least`` to ``most``, which itself is left out if ``below``."""
    if below:
        return _numbers(lambda value: least <= value < most, f"{least:g} or more and below {most:g}")
    return _numbers(lambda value: least <= value <= most, f"{least:g} to {most:g}")


any_number = Allowed(math.isfinite, "a finite number is needed", "any number")


def each(allowed: Allowed, count: int | None = None) -> Allowed:
    """A list or tuple whose elements are all allowed, ``count`` of them if that is given."""

    def holds(values: Iterable[Any]) -> bool:
        values = list(values)
        try:
            return (count is None or len(values) == count) and all(map(allowed.holds, values))
        except TypeError:  # an element of another type
            return False

    how_many = "" if count is None else f"{count} values, "
    return Allowed(holds, f"{how_many}of each: {allowed.says}", f"{how_many}each {allowed.short}")


def _numbers(holds: Callable[[Any], bool], short: str) -> Allowed:
    def finite(value: Any) -> bool:
        return math.isfinite(value) and holds(value)

    return Allowed(finite, f"{short} is needed", short)


share = between(0, 1)

_ABSENT = object()
_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
}


def _is_alike(value: Any, default: Any) -> bool:
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple))
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(default))
