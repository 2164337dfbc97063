"""Two runs side by side: settings, metrics and classes in which they differ; or two checkpoints and their weights.

    python tools/compare.py output/dtd/CoOp/mini_16shots/seed1 output/dtd/MMTPA/mini_16shots/seed1
    python tools/compare.py .../seed1/prompt_learner/model.pth.tar-10 .../seed1/prompt_learner/model.pth.tar-50

A run is its folder or its result.json. A checkpoint also stands for the run that it was saved in, where it lies
in one's folder.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from runs.argument_types import at_least, expanded
from runs.errors import OneLineParser, clean_errors
from runs.record import FILE_NAME, read_record
from runs.same_run import differing_settings

METRICS = {"accuracy": "accuracy (%)", "error_rate": "error (%)", "macro_f1": "macro F1 (%)"}


def settings(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Where the runs differ in what was run, as "key: value of a -> value of b"."""
    names = ["kind", "trainer", "dataset", "backbone", "seed", "shots", "model_dir", "load_epoch"]
    names += ["backbone_hash", "few_shot_hash"]
    lines = [f"{name}: {a.get(name)} -> {b.get(name)}" for name in names if a.get(name) != b.get(name)]
    for part in ("versions", "hardware"):
        one, other = a.get(part) or {}, b.get(part) or {}
        lines += [
            f"{part} {name}: {one.get(name)} -> {other.get(name)}"
            for name in {**one, **other}
            if one.get(name) != other.get(name)
        ]
    # These stand above already.
    repeated = ("TRAINER.NAME:", "DATASET.NAME:", "MODEL.BACKBONE.NAME:", "SEED:", "DATASET.NUM_SHOTS:")
    return lines + [line for line in differing_settings(a, b["config"]) if not line.startswith(repeated)]


def metrics(a: dict[str, Any], b: dict[str, Any]) -> pd.DataFrame:
    """One row for each metric and cost: a, b and b - a."""
    rows: dict[str, list[float]] = {}
    if a["metrics"] and b["metrics"]:
        rows |= {title: [_value(of["metrics"], key) for of in (a, b)] for key, title in METRICS.items()}
    rows["trainable parameters"] = [_value(of, "trainable_parameters") for of in (a, b)]
    rows["seconds"] = [_value(of["time"], "run_seconds") for of in (a, b)]
    rows["ms a step"] = [1000 * _value(of["time"], "step_seconds") for of in (a, b)]
    rows["peak memory (MiB)"] = [_value(of.get("peak_memory") or {}, "bytes") / 2**20 for of in (a, b)]
    table = pd.DataFrame(rows, index=["A", "B"], dtype=float).T
    table["B - A"] = table["B"] - table["A"]
    return table


def _value(part: dict[str, Any], key: str) -> float:
    """What a record has, NaN where it has none or where the run measured none."""
    value = part.get(key)
    return math.nan if value is None else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) > 100 else f"{value:,.2f}"


def classes(a: dict[str, Any], b: dict[str, Any]) -> pd.DataFrame:
    """Accuracy (%) on each class that both were tested on, the greatest gain of b first; and the tested images."""
    if not (a["metrics"] and b["metrics"]):
        return pd.DataFrame(columns=["A", "B", "B - A", "images"])
    tables = []
    for record in (a, b):
        table = pd.DataFrame(
            record["metrics"].get("per_class") or [], columns=["class", "accuracy", "images"]
        )
        # ImageNet has two classes of one name.
        table["number"] = table.groupby("class").cumcount()
        tables.append(table)
    both = tables[0].merge(tables[1], on=["class", "number"], suffixes=(" a", " b")).set_index("class")
    table = pd.DataFrame({"A": both["accuracy a"], "B": both["accuracy b"]})
    table["B - A"] = table["B"] - table["A"]
    table["images"] = both["images b"]
    return table.sort_values("B - A", ascending=False, kind="stable")


def weights(a: Path, b: Path) -> pd.DataFrame:
    """For each tensor of two checkpoints: its shape, its norm in each and the norm of the difference, in fp64.

    ValueError for a file that is no checkpoint.
    """
    import torch

    from dassl.utils import load_checkpoint

    tensors = []
    for path in (a, b):
        checkpoint = load_checkpoint(str(path))
        state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else {}
        found = {name: value.double() for name, value in state.items() if isinstance(value, torch.Tensor)}
        if not found:
            raise ValueError(f"{path} holds no weights")
        tensors.append(found)
    rows = []
    for name in {**tensors[0], **tensors[1]}:
        one, other = (found.get(name) for found in tensors)
        moved = None
        if one is not None and other is not None and one.shape == other.shape:
            moved = (other - one).norm().item()
        rows.append(
            {
                "tensor": name,
                "shape": " -> ".join(
                    dict.fromkeys("none" if t is None else str(tuple(t.shape)) for t in (one, other))
                ),
                "|A|": None if one is None else one.norm().item(),
                "|B|": None if other is None else other.norm().item(),
                "|B - A|": moved,
            }
        )
    return pd.DataFrame(rows).set_index("tensor")


def record_of(path: Path) -> dict[str, Any] | None:
    """The record of the run at `path`; of a checkpoint, that of its run, None where there is none."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir() or path.name == FILE_NAME:
        return read_record(path)
    folder = path.resolve().parent.parent
    return read_record(folder) if (folder / FILE_NAME).is_file() else None


def is_checkpoint(path: Path) -> bool:
    """Whether a path that exists is taken for a checkpoint."""
    return path.is_file() and path.name != FILE_NAME


def main() -> None:
    """Print what differs."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=expanded, metavar="A", help="a run or a checkpoint")
    parser.add_argument("b", type=expanded, metavar="B", help="another")
    parser.add_argument("--classes", type=at_least(1), default=10, help="classes to show at either end")
    args = parser.parse_args()
    a, b = record_of(args.a), record_of(args.b)
    if is_checkpoint(args.a) != is_checkpoint(args.b):
        raise ValueError("one is a checkpoint and the other a run: give two of a kind")
    print(f"A: {args.a}\nB: {args.b}\n")
    if is_checkpoint(args.a):
        print(f"Weights\n{weights(args.a, args.b).to_string(na_rep='-', float_format='{:.4g}'.format)}\n")
    if a is None or b is None or args.a.resolve() == args.b.resolve():
        return
    # Two checkpoints of one run have nothing else to compare: its record is that of its final model.
    if is_checkpoint(args.a) and args.a.resolve().parent.parent == args.b.resolve().parent.parent:
        return
    lines = settings(a, b)
    print("Settings (A -> B)\n" + ("\n".join(f"  {line}" for line in lines) or "  none differs") + "\n")
    print(f"Metrics\n{metrics(a, b).to_string(na_rep='-', float_format=_number)}\n")
    _print_classes(classes(a, b), args.classes)


def _print_classes(table: pd.DataFrame, most: int) -> None:
    gains, losses = table[table["B - A"] > 0], table[table["B - A"] < 0].iloc[::-1]
    print(
        f"Classes: {len(gains)} gain, {len(losses)} lose, {len(table) - len(gains) - len(losses)} are as before"
    )
    for title, part in {"Gains": gains, "Losses": losses}.items():
        if len(part):
            shown = part.head(most).rename_axis(None)
            left = f"  ... and {len(part) - most} more\n" if len(part) > most else ""
            print(f"\n{title}\n{shown.to_string(float_format='{:.1f}'.format)}\n{left}", end="")


if __name__ == "__main__":
    with clean_errors():
        main()
