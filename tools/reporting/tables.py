"""Tables of results: what stands in them, and how they look as text, CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Value:
    """One entry of a table.

    Attributes:
        number: None where there is nothing (yet).
        spread: over seeds; None for a single one.
        remark: what is missing, e.g. "2/3 seeds". A value with a remark takes no part in the ranking.
        digits: behind the decimal point.
    """

    number: float | None = None
    spread: float | None = None
    remark: str = ""
    digits: int = 2

    @property
    def ranks(self) -> bool:
        return self.number is not None and not self.remark

    def plain(self, plus_minus: str = " ± ") -> str:
        """The number and its spread, without the remark; "-" where there is none."""
        if self.number is None:
            return "-"
        if self.number and not round(self.number, self.digits):  # a p-value
            return f"{self.number:.0e}"
        around = "" if self.spread is None else f"{plus_minus}{self.spread:.{self.digits}f}"
        return f"{self.number:,.{self.digits}f}{around}"

    def __str__(self) -> str:
        if self.number is None and self.remark:
            return self.remark
        return self.plain() + (f" ({self.remark})" if self.remark else "")


@dataclass(frozen=True)
class Row:
    """A method's row. `published` says where its numbers were read, "" for our own; such rows are not ranked."""

    section: str
    label: str
    values: tuple[Value, ...]
    published: str = ""

    @property
    def name(self) -> str:
        return f"{self.label} [published: {self.published}]" if self.published else self.label


@dataclass(frozen=True)
class Table:
    """Rows in sections under named columns.

    Attributes:
        name: of its files.
        sections: what a section is, e.g. "data set"; "" where there are none.
        lower_is_better: columns whose least value is the best.
        unranked: columns in which nothing is best.
    """

    name: str
    title: str
    sections: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    lower_is_better: frozenset[str] = field(default=frozenset())
    unranked: frozenset[str] = field(default=frozenset())

    def ranks(self) -> dict[tuple[int, int], int]:
        """1 for the best and 2 for the second of each section and column, by row and column number.

        Equal printed numbers share a rank. Nothing ranks where there is nothing to compare.
        """
        found: dict[tuple[int, int], int] = {}
        for column, name in enumerate(self.columns):
            for section in dict.fromkeys(row.section for row in self.rows):
                numbers = {
                    number: round(row.values[column].number or 0.0, row.values[column].digits)
                    for number, row in enumerate(self.rows)
                    if row.section == section and not row.published and row.values[column].ranks
                }
                if name in self.unranked or len(numbers) < 2:
                    continue
                places = sorted(set(numbers.values()), reverse=name not in self.lower_is_better)[:2]
                for number, value in numbers.items():
                    if value in places:
                        found[number, column] = places.index(value) + 1
        return found

    def header(self) -> list[str]:
        """Names of all columns, the section's and the method's first."""
        return [*([self.sections] if self.sections else []), "method", *self.columns]

    def _cells(self, row: Row, values: Sequence[str]) -> list[str]:
        return [*([row.section] if self.sections else []), row.name, *values]


def as_text(table: Table) -> str:
    """For the terminal: a block for each section."""
    ranks = table.ranks()
    marks = {1: "*", 2: "'"}
    lines: list[list[str]] = [["", *table.columns]]
    for number, row in enumerate(table.rows):
        if row.section and (number == 0 or table.rows[number - 1].section != row.section):
            lines.append([row.section])
        values = [f"{value}{marks.get(ranks.get((number, i), 0), ' ')}" for i, value in enumerate(row.values)]
        lines.append([f"  {row.name}" if row.section else row.name, *values])
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(table.columns) + 1)]
    rows = [
        "  ".join(
            cell.ljust(widths[i]) if i == 0 or len(line) == 1 else cell.rjust(widths[i])
            for i, cell in enumerate(line)
        ).rstrip()
        for line in lines
    ]
    ranked = ["* best, ' second"] if ranks else []
    return "\n".join([table.title, "", *rows, *(f"({note})" for note in [*ranked, *table.notes])]) + "\n"


def as_csv(table: Table) -> str:
    """Numbers with full precision: for each column its value, its spread and what is missing."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [name for column in table.columns for name in (column, f"{column} spread", f"{column} remark")]
    writer.writerow([*([table.sections] if table.sections else []), "method", "published in", *columns])
    for row in table.rows:
        values = [cell for value in row.values for cell in (value.number, value.spread, value.remark)]
        writer.writerow([*([row.section] if table.sections else []), row.label, row.published, *values])
    return file.getvalue()


def as_markdown(table: Table) -> str:
    """Best in bold, second underlined."""
    ranks = table.ranks()
    marks = {1: ("**", "**"), 2: ("<u>", "</u>")}
    header = list(map(as_markdown_text, table.header()))
    left = len(header) - len(table.columns)
    lines = [header, ["---"] * left + ["---:"] * len(table.columns)]
    for number, row in enumerate(table.rows):
        values = []
        for i, value in enumerate(row.values):
            before, after = marks.get(ranks.get((number, i), 0), ("", ""))
            values.append(f"{before}{as_markdown_text(str(value))}{after}")
        lines.append([*map(as_markdown_text, table._cells(row, [])), *values])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    notes = [f"\n{as_markdown_text(note)}" for note in table.notes]
    return "\n".join([f"### {as_markdown_text(table.title)}", "", *rows, *notes]) + "\n"


def as_markdown_text(text: str) -> str:
    """As it stands, wherever Markdown would read a tag, an emphasis or the end of a cell."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", re.sub(r"&(?=#?\w+;)", "&amp;", text))


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "−": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
# A table of more columns than a page is wide is scaled to it.
WIDE = 7


def as_latex(table: Table) -> str:
    """A booktabs table, best in bold, second underlined; needs `\\usepackage{booktabs}`, a wide one `{graphicx}`."""
    ranks = table.ranks()
    marks = {1: r"\textbf{%s}", 2: r"\underline{%s}"}
    columns = len(table.columns) + 1
    wide = columns > WIDE
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(' '.join(f'{part[0].upper()}{part[1:]}.' for part in (table.title, *table.notes)))}}}",
        rf"\label{{tab:{table.name}}}",
        *([r"\resizebox{\textwidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_tex, ["Method", *table.columns])) + r" \\",
    ]
    for number, row in enumerate(table.rows):
        if number == 0 or table.rows[number - 1].section != row.section:
            lines.append(r"\midrule")
            if row.section:
                lines.append(rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{_tex(row.section)}}}}} \\")
        values = []
        for i, value in enumerate(row.values):
            mark = marks.get(ranks.get((number, i), 0), "%s")
            values.append(mark % _tex(str(value)))
        lines.append(" & ".join([_tex(row.name), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}" + "}" * wide, r"\end{table}"]) + "\n"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
