"""Tables and figures of all finished runs below some folders.

    python tools/report.py output
    python tools/report.py output other/output --to report --spread ci95 --reference CoCoOp

Prints the tables, and writes each as .csv, .md and .tex, each figure as .png and .pdf, and all together as
report.md and as report.html, a page that needs nothing else. The runs' result.json are all that is read. A later
report into the same folder takes the place of the earlier one, whose files are listed in files.txt.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sized
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from foundation.disclosures import DISCLOSURES
from runs.argument_types import expanded
from runs.errors import OneLineParser, clean_errors
from tools.reporting.collect import collect
from tools.reporting.contents import all_tables
from tools.reporting.figures import Picture, all_figures
from tools.reporting.mixtures import mixtures
from tools.reporting.page import page
from tools.reporting.stats import SPREADS
from tools.reporting.tables import Table, as_csv, as_latex, as_markdown, as_markdown_text, as_text

FILES = "files.txt"


def make_parser() -> argparse.ArgumentParser:
    """The arguments of this program."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "folders",
        nargs="+",
        type=expanded,
        metavar="OUTPUT",
        help="where the runs' folders are, at any depth",
    )
    add("--to", type=expanded, help="folder of the report; OUTPUT/report")
    add(
        "--spread",
        choices=SPREADS,
        default="std",
        help="std: standard deviation over seeds; ci95: 95 %% interval",
    )
    add("--reference", help="method that the others are compared with; CoOp")
    add(
        "--without",
        nargs="+",
        choices=DISCLOSURES,
        default=[],
        metavar="NAME",
        help=f"leave out results of which one of these must be said: {', '.join(DISCLOSURES)}",
    )
    add("--title", default="Results", help="heading of the page")
    return parser


def main() -> None:
    """Collect, warn, print and write."""
    args = make_parser().parse_args()
    results, warnings = collect(args.folders)
    results = [result for result in results if not result.disclosures & set(args.without)]
    if not results:
        raise ValueError(f"--without {' '.join(args.without)} leaves no result")
    warnings += mixtures(results)
    tables = all_tables(results, args.spread, args.reference)
    pictures = list(all_figures(results, args.spread))
    for table in tables:
        print(as_text(table))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)

    methods, datasets = {result.method for result in results}, {result.dataset for result in results}
    about = (
        f"{_counted(results, 'result')} of {_counted(methods, 'method')} on {_counted(datasets, 'data set')}"
    )
    folder = args.to or args.folders[0] / "report"
    try:
        _write(folder, args.title, about, tables, pictures, warnings)
    except OSError as error:
        raise OSError(f"folder of the report {folder} cannot be written: {error.strerror}") from error
    print(f"{about}: {folder / 'report.html'}, report.md, and each table and figure beside them")


def _write(
    folder: Path, title: str, about: str, tables: list[Table], pictures: list[Picture], warnings: list[str]
) -> None:
    """Write all files, each whole, and remove those of an earlier report that this one has not.

    They are first written aside, so that a full disk leaves the earlier report as it was. FILES lists what a report has
    written: nothing else is removed, whatever it is called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {as_markdown_text(title)}", f"{about}."]
    parts += (
        ["\n".join(f"* **Warning**: {as_markdown_text(warning)}" for warning in warnings)] if warnings else []
    )
    parts += [f"![{as_markdown_text(picture.title)}]({picture.name}.png)" for picture in pictures]
    parts += [as_markdown(table).strip() for table in tables]
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as aside:
        new = Path(aside)
        for table in tables:
            for ending, text in {
                "csv": as_csv(table),
                "md": as_markdown(table),
                "tex": as_latex(table),
            }.items():
                (new / f"{table.name}.{ending}").write_text(text, encoding="utf-8")
        for picture in pictures:
            for ending in ("png", "pdf"):
                picture.figure.savefig(new / f"{picture.name}.{ending}", dpi=150)
        (new / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        html = page(title, tables, pictures, warnings, [about])
        (new / "report.html").write_text(html, encoding="utf-8")
        names = sorted(path.name for path in new.iterdir())
        (new / FILES).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

        earlier = (
            (folder / FILES).read_text(encoding="utf-8").splitlines() if (folder / FILES).is_file() else []
        )
        for name in [*names, FILES]:
            os.replace(new / name, folder / name)
        for name in set(earlier) - set(names):
            if name == Path(name).name and (folder / name).is_file():
                (folder / name).unlink()


def _counted(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"


if __name__ == "__main__":
    with clean_errors():
        main()
