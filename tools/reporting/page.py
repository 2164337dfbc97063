"""A report as one self-contained HTML page: tables that a click on a column's name sorts, and the figures."""

import base64
import html
import io
import re
from collections.abc import Sequence

from tools.reporting.averages import AVERAGE
from tools.reporting.figures import Picture
from tools.reporting.tables import Table, Value

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --faint: #555; --line: #ddd; --rule: #555;
  --hover: #f3f6fa; --average: #f6f3ea; --remark: #a02020; --warning: #fff4e0; --link: #0b57a4; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #16181b; --faint: #a9a9a9; --line: #34383d; --rule: #8a8a8a;
    --hover: #22272e; --average: #24221a; --remark: #ff9d8f; --warning: #3a2b10; --link: #8ab8f0; }
}
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
a { color: var(--link); }
nav ul { columns: 24rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  background: var(--paper); overflow-wrap: normal; }
.name { text-align: left; position: sticky; left: 0; z-index: 1; max-width: 22rem; white-space: normal;
  overflow-wrap: break-word; }
.section + .name { left: var(--first, 0); }
.section { white-space: nowrap; }
th { border-bottom: 2px solid var(--rule); vertical-align: bottom; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0; cursor: pointer; color: inherit; }
th button::after { content: " \\2195"; color: var(--faint); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--ink); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--ink); }
tbody.average td { background: var(--average); }
tbody.average + tbody tr:first-child td { border-top: 2px solid var(--rule); }
tbody tr:hover td { background: var(--hover); }
tr.published td { color: var(--faint); font-style: italic; }
td.best { font-weight: 700; } td.second { text-decoration: underline; }
.remark { color: var(--remark); font-size: .85em; }
.note { color: var(--faint); font-size: .9rem; margin: .3rem 0; }
.warnings { background: var(--warning); border-left: 4px solid #d98500; padding: .5rem 1rem; }
img { max-width: 100%; height: auto; background: #fff; }
@media screen and (min-width: 45.01rem) { .name:not(.section) { min-width: 11rem; } }
@media screen and (max-width: 45rem) {
  body { margin-top: 1rem; font-size: 14px; }
  th, td { padding: .25rem .45rem; }
  .section { position: static; }
  .section + .name, .name { left: 0; max-width: 8.5rem; }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { font-size: 9pt; max-width: none; margin: 0; padding: 0; }
  nav, th button::after { display: none; }
  h2 { break-after: avoid; margin-top: 1rem; }
  .scroll { overflow: visible; }
  table { width: 100%; }
  thead { display: table-header-group; }
  tr, img { break-inside: avoid; }
  th, td { padding: 1pt 3pt; white-space: normal; }
  th { overflow-wrap: break-word; }
  table.wide { font-size: 7pt; }
  .name { position: static; }
  section[id^=figure] { break-inside: avoid; }
  img { max-height: 165mm; object-fit: contain; object-position: left; }
}
"""

# Numbers before texts, entries without a number last whichever way; equal ones keep their order. Averages stay apart.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const measure = () => table.style.setProperty("--first", heads[0].offsetWidth + "px");
  measure();
  addEventListener("resize", measure);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const name = head.classList.contains("name");
    const before = head.getAttribute("aria-sort");
    const order = before === null ? (name ? "ascending" : "descending")
      : before === "ascending" ? "descending" : "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = row => name ? row.cells[column].textContent : parseFloat(row.cells[column].dataset.value);
    for (const body of table.tBodies) {
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (name) return sign * x.localeCompare(y, undefined, {numeric: true});
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      });
      body.append(...rows);
    }
  }));
}
"""
WIDE = 8  # columns of numbers, in print


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
        f'<li><a href="#{what}-{_text(name)}">{_text(title)}</a> ({what})</li>' for name, title, what in names
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
        f'<section id="figure-{_text(picture.name)}"><h2>{title}</h2>'
        f'<img alt="{title}" src="data:image/png;base64,{data}"></section>'
    )


def _table(table: Table) -> str:
    ranks = table.ranks()
    names = ["name section", "name"] if table.sections else ["name"]
    classes = [f' class="{name}"' for name in names] + [""] * len(table.columns)
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{_breakable(name)}</button></th>'
        for name, kind in zip(table.header(), classes, strict=True)
    )
    bodies: dict[bool, list[str]] = {True: [], False: []}
    for number, row in enumerate(table.rows):
        cells = [row.section] if table.sections else []
        cells.append(f"{row.label} (published: {row.published})" if row.published else row.label)
        line = "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(cells, classes))
        line += "".join(_value(value, ranks.get((number, i), 0)) for i, value in enumerate(row.values))
        row_class = ' class="published"' if row.published else ""
        bodies[row.section == AVERAGE].append(f"<tr{row_class}>{line}</tr>")
    body = f'<tbody class="average">{"".join(bodies[True])}</tbody>' if bodies[True] else ""
    body += f"<tbody>{''.join(bodies[False])}</tbody>" if bodies[False] else ""
    wide = ' class="wide"' if len(table.columns) > WIDE else ""
    notes = "".join(f'<p class="note">{_text(note)}</p>' for note in table.notes)
    return (
        f'<section id="table-{_text(table.name)}"><h2>{_text(table.title)}</h2><div class="scroll"><table{wide}>'
        f"<thead><tr>{heads}</tr></thead>{body}</table></div>{notes}</section>"
    )


def _value(value: Value, rank: int) -> str:
    style = {1: ' class="best"', 2: ' class="second"'}.get(rank, "")
    number = "" if value.number is None else repr(float(value.number))
    shown = value.plain() if value.number is not None or not value.remark else ""
    remark = f' <span class="remark">{_text(value.remark)}</span>' if value.remark else ""
    return f'<td{style} data-value="{number}">{_text(shown)}{remark}</td>'


def _breakable(name: str) -> str:
    """ "StanfordCars" may become two lines where a printed column is narrow."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])", "<wbr>", _text(name))


def _text(text: str) -> str:
    return html.escape(text)
