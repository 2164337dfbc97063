"""A report as one self-contained HTML page: tables that a click on a column's name sorts, and the figures."""

import base64
import html
import io
from collections.abc import Sequence

from tools.reporting.figures import Picture
from tools.reporting.tables import Table, Value

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
nav ul { columns: 2; padding-left: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th.name, td.name { text-align: left; }
th { border-bottom: 2px solid #555; vertical-align: bottom; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0; cursor: pointer; color: inherit; }
th button::after { content: " \\2195"; color: #999; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: #000; }
th[aria-sort=descending] button::after { content: " \\2193"; color: #000; }
tbody tr:hover { background: #f3f6fa; }
tr.published { color: #666; font-style: italic; }
td.best { font-weight: 700; } td.second { text-decoration: underline; }
.remark { color: #a33; font-size: .85em; }
.note { color: #555; font-size: .9rem; margin: .3rem 0; }
.warnings { background: #fff4e0; border-left: 4px solid #d98500; padding: .5rem 1rem; }
img { max-width: 100%; height: auto; }
"""

# Numbers before texts, entries without a number last whichever way; equal ones keep their order.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const name = head.classList.contains("name");
    const before = head.getAttribute("aria-sort");
    const order = before === null ? (name ? "ascending" : "descending")
      : before === "ascending" ? "descending" : "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = row => name ? row.cells[column].textContent : parseFloat(row.cells[column].dataset.value);
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (name) return sign * x.localeCompare(y);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    });
    body.append(...rows);
  }));
}
"""


def page(
    title: str,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    warnings: Sequence[str],
    remarks: Sequence[str] = (),
) -> str:
    """The whole page. It loads nothing from anywhere."""
    names = [*((p.name, p.title, "figure") for p in pictures), *((t.name, t.title, "table") for t in tables)]
    contents = "".join(
        f'<li><a href="#{what}-{name}">{_text(title)}</a> ({what})</li>' for name, title, what in names
    )
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # A page without an icon of its own makes browsers ask for one.
        '<link rel="icon" href="data:,">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        *(f'<p class="note">{_text(remark)}</p>' for remark in remarks),
        _warnings(warnings),
        f"<nav><ul>{contents}</ul></nav>",
        *map(_figure, pictures),
        *map(_table, tables),
        f"<script>{_SCRIPT}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{_text(warning)}</li>" for warning in warnings)
    return f'<div class="warnings" role="note"><strong>Warnings</strong><ul>{items}</ul></div>'


def _figure(picture: Picture) -> str:
    file = io.BytesIO()
    picture.figure.savefig(file, format="png", dpi=110)
    data = base64.b64encode(file.getvalue()).decode()
    title = _text(picture.title)
    return (
        f'<section id="figure-{picture.name}"><h2>{title}</h2>'
        f'<img alt="{title}" src="data:image/png;base64,{data}"></section>'
    )


def _table(table: Table) -> str:
    ranks = table.ranks()
    names = len(table.header()) - len(table.columns)
    heads = "".join(
        f'<th scope="col"{" class=name" if i < names else ""}><button type="button">{_text(name)}</button></th>'
        for i, name in enumerate(table.header())
    )
    rows = []
    for number, row in enumerate(table.rows):
        cells = [row.section] if table.sections else []
        cells.append(f"{row.label} (published: {row.published})" if row.published else row.label)
        line = "".join(f'<td class="name">{_text(cell)}</td>' for cell in cells)
        line += "".join(_value(value, ranks.get((number, i), 0)) for i, value in enumerate(row.values))
        rows.append(f"<tr{' class=published' if row.published else ''}>{line}</tr>")
    notes = "".join(f'<p class="note">{_text(note)}</p>' for note in table.notes)
    return (
        f'<section id="table-{table.name}"><h2>{_text(table.title)}</h2><div class="scroll"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{notes}</section>"
    )


def _value(value: Value, rank: int) -> str:
    style = {1: ' class="best"', 2: ' class="second"'}.get(rank, "")
    number = "" if value.number is None else repr(float(value.number))
    shown = value.plain() if value.number is not None or not value.remark else ""
    remark = f' <span class="remark">{_text(value.remark)}</span>' if value.remark else ""
    return f'<td{style} data-value="{number}">{_text(shown)}{remark}</td>'


def _text(text: str) -> str:
    return html.escape(text)
