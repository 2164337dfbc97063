"""Merge settings into a config; a wrong one is an error that names it, its origin and what would work."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge the YAML file `path` into `cfg`; ValueError for a key or a type that `cfg` does not have."""
    file = Path(path)
    if file.suffix not in (".yaml", ".yml"):
        raise ValueError(f"config file {path}: expected a .yaml file")
    if not file.is_file():
        raise FileNotFoundError(f"config file {path} does not exist; {_configs_near(file)}")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return
    if not isinstance(tree, dict):
        raise ValueError(f"config file {path}: expected sections of keys, found {type(tree).__name__}")
    for key, value in _leaves(tree):
        _merge_one(cfg, key, value, path)


def merge_pairs(cfg: CfgNode, pairs: list[Any]) -> None:
    """Merge `KEY VALUE KEY VALUE ...` of the command line into `cfg`; errors as in `merge_file`."""
    for word in pairs:
        if isinstance(word, str) and word.startswith("--"):
            raise ValueError(f"command line: {word} must stand before the KEY VALUE pairs")
    if len(pairs) % 2:
        raise ValueError(f"command line: {pairs[-1]} has no value (KEY VALUE pairs)")
    for key, value in zip(pairs[::2], pairs[1::2]):
        _merge_one(cfg, key, value, "command line")


def nearest(name: str, names: list[str]) -> str:
    """The one of `names` most like `name`; the last part of a dotted key weighs more than its section."""

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, name.upper(), candidate.upper()).ratio()
        last = difflib.SequenceMatcher(
            None, name.upper().rpartition(".")[2], candidate.upper().rpartition(".")[2]
        ).ratio()
        return whole + 1.5 * last

    return max(names, key=likeness)


def _merge_one(cfg: CfgNode, key: str, value: Any, origin: str) -> None:
    known = dict(_leaves(cfg))
    if key not in known:
        raise ValueError(f"{origin}: no config key {key}; the nearest is {nearest(key, list(known))}")
    default = known[key]
    try:
        cfg.merge_from_list([key, value])
    except ValueError:
        # yacs refuses `LR 1` for a float and `CTX_INIT 2` for a text; everybody who writes it means 1.0 and "2".
        try:
            if isinstance(default, str) and isinstance(value, (str, int, float)):
                cfg.merge_from_list([key, repr(str(value))])
            elif isinstance(default, float) and not isinstance(value, bool):
                cfg.merge_from_list([key, float(value)])
            else:
                raise
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{origin}: {key} must be of type {type(default).__name__} (now {default!r}), not {value!r}"
            ) from error


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _configs_near(file: Path) -> str:
    folder = file.parent
    while not folder.is_dir():
        folder = folder.parent
    configs = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.yaml"))
    return f"in {folder} there are: {', '.join(configs)}" if configs else f"{folder} holds no .yaml file"
