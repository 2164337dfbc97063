"""All config keys as a list for people: `python train.py --keys`, and docs/keys.md.

python -m runs.key_list > docs/keys.md
"""

from collections.abc import Iterator

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key
from runs.schema import declared_keys
from runs.settings import leaves, nearest

HEAD = """# All settings

Every key with its default, the values that it may have and what it is. In a config file they are nested sections, on
the command line `KEY VALUE` pairs behind the arguments: `OPTIM.MAX_EPOCH 50 TRAINER.COOP.N_CTX 4`. A value that is not
allowed is named before anything is built. `python train.py --keys METHOD` says the same. This page is made from the
declarations: `python -m runs.key_list > docs/keys.md`.
"""


def print_keys(method: str) -> None:
    """List the keys of all runs and, if it is given, of a method; ValueError for a method that does not exist."""
    names = TRAINER_REGISTRY.registered_names()
    if method and method not in names:
        raise ValueError(
            f"--keys {method}: trainer {method!r} is unknown, the nearest is {nearest(method, names)}; "
            f"choose from: {', '.join(sorted(names))}"
        )
    keys = {**of_data_sets(), **declared_keys(), **_of_plugin(method)}
    if method:
        keys |= declared_keys(method)
    for name, key in sorted(keys.items()):
        if not key.what.startswith("of Dassl's"):
            allowed = f" [{key.allowed.short}]" if key.allowed else ""
            print(f"{name} = {key.default!r}{allowed}\n    {key.what}")
    if not method:
        print(f"\nA method's own: python train.py --keys METHOD, one of {', '.join(sorted(names))}")


def page() -> str:
    """docs/keys.md."""
    common = declared_keys()
    parts = [HEAD, _table("All runs", {n: k for n, k in common.items() if not n.startswith("TRAINER.")})]
    parts.append(_table("Own images", of_data_sets()))
    for name in sorted(TRAINER_REGISTRY.registered_names()):
        own = {n: k for n, k in declared_keys(name).items() if n not in common}
        if own:
            parts.append(_table(name, own))
    others = {name: key for name, key in common.items() if name.startswith("TRAINER.")}
    parts.append(_table("Every method", {n: k for n, k in others.items() if n.count(".") == 1}))
    parts.append(
        _table("Declared for config files of Dassl", {n: k for n, k in others.items() if n.count(".") > 1})
    )
    return "\n".join(parts)


def of_data_sets() -> dict[str, Key]:
    """The keys that data sets declare for themselves."""
    keys: dict[str, Key] = {}
    for name in DATASET_REGISTRY.registered_names():
        keys |= getattr(DATASET_REGISTRY.get(name), "keys", {})
    return keys


def _of_plugin(method: str) -> dict[str, Key]:
    """Keys that a method declares by assignments alone: a default, and no more is known."""
    extend = getattr(TRAINER_REGISTRY.get(method), "extend_cfg", None) if method else None
    if extend is None:
        return {}
    cfg = get_cfg_default()
    before = set(dict(leaves(cfg)))
    extend(cfg)
    return {
        name: Key(value, "(declared without a description)")
        for name, value in leaves(cfg)
        if name not in before
    }


def _table(title: str, keys: dict[str, Key]) -> str:
    return "\n".join(
        [f"## {title}", "", "| key | default | allowed | |", "|---|---|---|---|", *_rows(keys), ""]
    )


def _rows(keys: dict[str, Key]) -> Iterator[str]:
    for name, key in sorted(keys.items()):
        allowed = key.allowed.short if key.allowed else "True, False" if isinstance(key.default, bool) else ""
        yield f"| `{name}` | `{key.default!r}` | {allowed} | {key.what} |"


if __name__ == "__main__":
    print(page(), end="")
