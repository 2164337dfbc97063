"""Compare finished runs: a table, and a bar plot, of all result.json under a folder.

python tools/summary.py output/demo
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

from tools.cli import OneLineParser, clean_errors
from tools.record import FILE_NAME, read_record

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd

# A bundled model's figures must never be taken for the method's.
TOY = {"mini"}
TOY_NOTE = "bundled toy model: shows that the software works, says nothing of the methods"


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished runs under `folder`, in the order in which they were started."""
    paths = sorted(folder.rglob(FILE_NAME))
    if not paths:
        raise FileNotFoundError(f"no {FILE_NAME} of a finished run under {folder}")
    return sorted((read_record(path) for path in paths), key=lambda record: record["time"]["started"])


def make_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a run: data set, method, accuracy (%), trainable parameters, seconds, peak memory (MiB)."""
    rows = [
        {
            "data set": record["dataset"],
            "method": record["trainer"],
            "shots": record["shots"],
            "seed": record["seed"],
            "accuracy": record["metrics"]["accuracy"],
            "trainable": record["trainable_parameters"],
            "seconds": record["time"]["setup_seconds"] + record["time"]["run_seconds"],
            "peak MiB": record["peak_memory"]["bytes"] / 2**20,
        }
        for record in records
        if record["metrics"]
    ]
    return pd.DataFrame(rows).sort_values("data set", kind="stable", ignore_index=True)


def format_table(table: pd.DataFrame) -> str:
    """The table as text, a block for each data set."""
    formats = {
        "accuracy": "{:.1f} %".format,
        "trainable": "{:,}".format,
        "seconds": "{:.0f}".format,
        "peak MiB": "{:,.0f}".format,
    }
    blocks = [
        f"{name}\n{rows.drop(columns='data set').to_string(index=False, formatters=formats)}"
        for name, rows in table.groupby("data set", sort=False)
    ]
    return "\n\n".join(blocks)


def plot(table: pd.DataFrame, path: Path, note: str) -> None:
    """Write a bar plot of accuracy, grouped by data set, one colour a method; seeds are averaged."""
    accuracy = table.pivot_table(index="data set", columns="method", values="accuracy", sort=False)
    figure, axes = plt.subplots(figsize=(2.5 + 2.2 * len(accuracy), 4), layout="constrained")
    accuracy.plot.bar(ax=axes, rot=0, width=0.75)
    for method, bars in zip(accuracy, axes.containers):
        # pandas draws what is missing as a bar of height 0.
        labels = ["" if pd.isna(value) else f"{value:.1f}" for value in accuracy[method]]
        axes.bar_label(bars, labels=labels, padding=2, fontsize=9)  # type: ignore[arg-type]
    axes.set(xlabel="", ylabel="test accuracy (%)", ylim=(0, 105))
    axes.legend(title=None, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(note, fontsize=9, color="dimgray")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print the table of a folder's runs, and write table and plot into it."""
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the runs' output folders are")
    folder = parser.parse_args().folder
    records = read_records(folder)
    table = make_table(records)
    note = TOY_NOTE if any(record["backbone"] in TOY for record in records) else ""
    print(f"\n{format_table(table)}\n")
    if note:
        print(f"({note})\n")
    table.to_csv(folder / "summary.csv", index=False)
    plot(table, folder / "accuracy.png", note)
    print(f"Table, plot and all runs: {folder}")
    print("  summary.csv  accuracy.png  <data set>/<method>/result.json, log.txt, checkpoints")


if __name__ == "__main__":
    with clean_errors():
        main()
