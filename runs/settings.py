"""Merge settings into a config; a wrong one is an error that names it, its origin and what would work."""

import ast
import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from runs import ROOT


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge the YAML file `path` into `cfg`; ValueError for a key or a type that `cfg` does not have."""
    tree, texts = read_yaml(path)
    written = dict(leaves(texts))
    for key, value in leaves(tree):
        text = written.get(key)
        # YAML reads `20241127_153000` as a number; where the key is a text, it is what was written.
        as_written = isinstance(text, str) and value is not None and not isinstance(value, (bool, str))
        merge_one(cfg, key, value, path, text if as_written else None)


def read_yaml(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the YAML file `path` holds: as values, and as the text that is written there."""
    file = Path(path).expanduser()
    if file.suffix not in (".yaml", ".yml"):
        raise ValueError(f"config file {path}: expected a .yaml file")
    if not file.is_file():
        raise FileNotFoundError(f"config file {path} does not exist; {_configs_near(file)}")
    try:
        content = file.read_text(encoding="utf-8")
        tree, texts = yaml.load(content, _VALUES), yaml.load(content, _TEXTS)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise ValueError(f"config file {path}: expected sections of keys, found {type(tree).__name__}")
    return tree, texts


def merge_pairs(cfg: CfgNode, pairs: list[Any]) -> None:
    """Merge `KEY VALUE KEY VALUE ...` of the command line into `cfg`; errors as in `merge_file`."""
    check_pairs(pairs)
    for key, value in zip(pairs[::2], pairs[1::2]):
        merge_one(cfg, key, value, "command line")


def check_pairs(words: list[Any]) -> None:
    """ValueError where `words` are no `KEY VALUE` pairs: an option among them, KEY=VALUE, a value that is missing."""
    for word in words:
        if isinstance(word, str) and word.startswith("--"):
            raise ValueError(
                f"command line: {word} must stand before the KEY VALUE pairs (before {words[0]})"
            )
    for key, *values in (words[i : i + 2] for i in range(0, len(words), 2)):
        name, equals, value = str(key).partition("=")
        if equals and _KEY.fullmatch(name):
            raise ValueError(f"command line: {key} must be written without the equals sign: {name} {value}")
        if not values:
            raise ValueError(f"command line: {key} has no value (KEY VALUE pairs)")
        if isinstance(values[0], str) and _KEY.fullmatch(values[0]) and len(words) % 2:
            raise ValueError(f"command line: {key} has no value, the next word is the key {values[0]}")


def nearest(name: str, names: list[str]) -> str:
    """The one of `names` most like `name`; the last part of a dotted key weighs more than its section."""

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, name.upper(), candidate.upper()).ratio()
        last = difflib.SequenceMatcher(
            None, name.upper().rpartition(".")[2], candidate.upper().rpartition(".")[2]
        ).ratio()
        return whole + 1.5 * last

    return max(names, key=likeness)


def merge_one(cfg: CfgNode, key: str, value: Any, origin: str, text: str | None = None) -> None:
    """Merge one setting into `cfg`.

    Args:
        origin: where it was given, for messages.
        text: what was written there, where `value` is what somebody took it for.
    """
    default = _leaf(cfg, key)
    if default is _ABSENT:
        known = [name for name, _ in leaves(cfg)]
        raise ValueError(f"{origin}: no config key {key}; the nearest is {nearest(key, known)}")
    try:
        if isinstance(default, str):
            # yacs would take "20241127_153000", "None" and "(1)" for a number, nothing and a number.
            cfg.merge_from_list([key, repr(_text(value if text is None else text))])
        elif isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
            cfg.merge_from_list([key, float(value)])  # yacs refuses `LR 1`; everybody who writes it means 1.0
        elif isinstance(default, tuple) and _is_word(value) and all(isinstance(x, str) for x in default):
            cfg.merge_from_list([key, (value,)])  # of a list of texts, one alone
        elif value is None or value == "None":  # which yacs puts in the place of any value
            raise TypeError
        else:
            cfg.merge_from_list([key, value])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{origin}: {key} must be of type {type(default).__name__} (now {default!r}), not {value!r}"
        ) from error


def _text(value: Any) -> str:
    """What a text key is set to: quotes around it are not part of it."""
    if not isinstance(value, (str, bool, int, float)):
        raise TypeError
    try:
        unquoted = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return str(value)
    return unquoted if isinstance(unquoted, str) else str(value)


def _is_word(value: Any) -> bool:
    """Whether a value is a text that Python would not take for anything else."""
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return isinstance(value, str) and value != ""
    return False


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Whole name and value of all that is in nested dictionaries."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _leaf(tree: Any, key: str) -> Any:
    """What ``leaves`` has under a whole name."""
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return _ABSENT
        tree = tree[part]
    return _ABSENT if isinstance(tree, dict) and tree else tree


_ABSENT = object()
#: libyaml's, where PyYAML was built with it, are ten times as fast.
_VALUES: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXTS: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
#: What looks like the name of a config key.
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")
_SHOWN = 3


def _configs_near(file: Path) -> str:
    """The config files most like one that is missing: of its folder, or else of those that are shipped."""
    beside = sorted(file.parent.glob("*.yaml")) if file.parent.is_dir() else []
    shipped = sorted((ROOT / "configs").rglob("*.yaml"))

    def likeness(other: Path) -> float:
        pairs = zip(reversed(file.absolute().parts), reversed(other.absolute().parts))
        ratios = [difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio() for a, b in pairs]
        return sum(ratio / 2**i for i, ratio in enumerate(ratios[:3]))

    near = sorted(beside or shipped, key=likeness, reverse=True)[:_SHOWN]
    return f"the nearest are {', '.join(_as_typed(path) for path in near)}" if near else "there are none"


def _as_typed(path: Path) -> str:
    absolute, here = path.absolute(), Path(os.getcwd())
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)
