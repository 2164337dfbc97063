"""Explained images as one self-contained HTML page: pointing at a word shows its map, at a patch its words."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tools.explaining.colours import LARGEST_RATIO
from tools.explaining.maps import Candidate, Explanation, Pair, first_word, relative_mass

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --faint: #555; --line: #ccc; --raised: #f2f3f5;
  --chosen: #0b57a4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #16181b; --faint: #a9a9a9; --line: #454a51; --raised: #24282d; --chosen: #8ab8f0; }
}
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .8rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.note { color: var(--faint); font-size: .9rem; margin: .3rem 0; }
.image { display: grid; grid-template-columns: minmax(0, 28rem) minmax(0, 1fr); gap: 0 2rem; align-items: start; }
.image > h2 { grid-column: 1 / -1; }
.view { position: sticky; top: .5rem; z-index: 1; background: var(--paper); padding-bottom: .4rem; }
.seen { position: relative; }
.seen img { display: block; width: 100%; height: auto; }
.patches { position: absolute; inset: 0; display: grid; }
.patches:focus-visible { outline: 3px solid var(--chosen); outline-offset: 2px; }
.patches span.at, .extra span.at { outline: 2px solid var(--ink); outline-offset: -2px;
  box-shadow: inset 0 0 0 3px var(--paper); }
.extra { display: flex; flex-wrap: wrap; gap: .3rem; align-items: center; margin-top: .4rem; font-size: .85rem; }
.extra span { border: 1px solid var(--line); border-radius: 3px; padding: .1rem .45rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .5rem; align-items: center; font-size: .8rem;
  color: var(--faint); margin-top: .4rem; }
.legend i { flex: 1; min-width: 5rem; height: .6rem; border: 1px solid var(--line); }
.mass .legend i { background: linear-gradient(90deg, rgb(30 90 220 / .75), transparent, rgb(235 90 0 / .75)); }
.cosine .legend i { background: linear-gradient(90deg, transparent, rgb(235 90 0 / .75)); }
.said { min-height: 2.9em; margin: .4rem 0 0; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .55rem; text-align: right; border-bottom: 1px solid var(--line); overflow-wrap: normal; }
th { font-weight: 600; vertical-align: bottom; } th:first-child, .classes td:first-child { text-align: left; }
.classes td:first-child { min-width: 8rem; }
.matrix th, .matrix td { border: 0; padding: .1rem; text-align: center; font-weight: 400; font-size: .85rem; }
button { font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line); border-radius: 4px;
  padding: .15rem .5rem; cursor: pointer; text-align: left; }
button[aria-pressed=true] { border-color: var(--chosen); box-shadow: inset 0 0 0 1px var(--chosen); font-weight: 600; }
button:focus-visible { outline: 3px solid var(--chosen); outline-offset: 1px; }
.words { display: flex; flex-wrap: wrap; gap: .35rem; }
.matrix button { min-width: 3.4rem; text-align: center; }
@media (max-width: 50rem) {
  body { margin-top: 1rem; font-size: 14px; }
  .image { grid-template-columns: minmax(0, 1fr); }
  .view { top: 0; } .seen { max-width: 45vh; margin: 0 auto; }
}
@media print { .view { position: static; } button { background: none; } }
"""

# Numbers come as 16 bits of the largest; colours as in colours.py.
_SCRIPT = """
const unpack = pair => {
  const bytes = Uint8Array.from(atob(pair.data), letter => letter.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float64Array.from({length: bytes.length / 2},
    (_, i) => pair.least + view.getUint16(2 * i, true) / 65535 * (pair.most - pair.least));
};
const percent = (share, digits = 1) => (100 * share).toFixed(digits) + "%";
const explained = JSON.parse(document.getElementById("explained").textContent);
document.querySelectorAll(".image").forEach((section, number) => {
  const image = explained.images[number], [rows, columns] = image.grid, patches = rows * columns;
  const find = name => section.querySelector(name), make = (tag, text, parent) => {
    const made = parent.appendChild(document.createElement(tag));
    made.textContent = text;
    return made;
  };
  let candidate = 0, m = 0, n = 0, pinned = 0, pair, values;
  const place = i => i < patches ? `row ${Math.floor(i / columns) + 1}, column ${i % columns + 1}`
    : `visual prompt token ${i - patches + 1}`;
  const grid = find(".patches");
  grid.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
  const cells = Array.from({length: patches + image.prompts}, (_, i) =>
    make("span", i < patches ? "" : `p${i - patches + 1}`, i < patches ? grid : find(".extra")));
  const colour = value => {
    const strength = image.matched ? Math.log(Math.max(value, 1e-9)) / Math.log(explained.largest)
      : (value - image.least) / (image.most - image.least || 1);
    const alpha = .75 * Math.min(1, Math.abs(strength));
    return `rgb(${strength > 0 ? "235 90 0" : "30 90 220"} / ${alpha.toFixed(3)})`;
  };
  const at = (i, l) => values[i * pair.words.length + l];
  const share = (i, l) => at(i, l) / values.length;
  const say = text => { find(".said").textContent = text; };
  const buttons = () => [...find(".words").children];
  const unmark = () => { cells.forEach(cell => cell.classList.remove("at"));
    buttons().forEach(button => { button.style.backgroundColor = ""; }); };
  const showWord = l => {
    unmark();
    cells.forEach((cell, i) => { cell.style.backgroundColor = colour(at(i, l)); });
    const order = cells.map((_, i) => i).sort((a, b) => at(b, l) - at(a, l)), best = order[0];
    if (!image.matched) {
      say(`Nearest to “${pair.words[l]}”: ${place(best)} (cosine ${at(best, l).toFixed(3)}).`);
      return;
    }
    const total = cells.reduce((sum, _, i) => sum + share(i, l), 0);
    const beside = cells.slice(patches).reduce((sum, _, i) => sum + share(patches + i, l), 0) / total;
    say(`“${pair.words[l]}” draws most from ${place(best)}: ${at(best, l).toFixed(2)} times as much as if all were `
      + "alike" + (image.prompts ? `; ${percent(beside)} of its mass comes from the ${image.prompts} visual prompt `
        + `tokens, which are ${percent(image.prompts / cells.length)} of all.` : "."));
  };
  const showPatch = i => {
    unmark();
    cells[i].classList.add("at");
    if (!image.matched) {
      say(`${place(i)}: ` + image.candidates.map(other => `${other.name} ${other.cosines[i].toFixed(3)}`).join(", "));
      return;
    }
    buttons().forEach((button, l) => { button.style.backgroundColor = colour(at(i, l)); });
    const total = pair.words.reduce((sum, _, l) => sum + share(i, l), 0);
    const order = pair.words.map((_, l) => l).sort((a, b) => at(i, b) - at(i, a)).slice(0, 4);
    say(`${place(i)}: of its mass goes `
      + order.map(l => `${percent(share(i, l) / total)} to “${pair.words[l]}”`).join(", "));
  };
  const back = () => showWord(pinned);
  const choosePair = (row, column) => {
    [m, n] = [row, column];
    pair = image.candidates[candidate].pairs[m][n];
    values = unpack(pair);
    pinned = Math.min(pair.first, pair.words.length - 1);
    find(".words").replaceChildren();
    pair.words.forEach((word, l) => {
      const button = make("button", word, find(".words"));
      button.type = "button";
      button.addEventListener("mouseenter", () => showWord(l));
      button.addEventListener("focus", () => showWord(l));
      button.addEventListener("mouseleave", back);
      button.addEventListener("blur", back);
      button.addEventListener("click", () => { pinned = l; pin(); showWord(l); });
    });
    pin();
    section.querySelectorAll(".matrix button").forEach(button =>
      button.setAttribute("aria-pressed", button.dataset.m == m && button.dataset.n == n));
    find(".pair").textContent = pair.about;
    back();
  };
  const pin = () => buttons().forEach((button, l) => button.setAttribute("aria-pressed", l === pinned));
  const chooseClass = index => {
    candidate = index;
    const chosen = image.candidates[index];
    section.querySelectorAll(".classes button").forEach((button, i) =>
      button.setAttribute("aria-pressed", i === index));
    const matrix = find(".matrix");
    if (matrix) {
      matrix.replaceChildren();
      const head = make("tr", "", matrix);
      ["", ...chosen.plan[0].map((_, i) => `text ${i + 1}`)].forEach(text => make("th", text, head));
      chosen.plan.forEach((row, i) => {
        const line = make("tr", "", matrix);
        make("th", `image ${i + 1}`, line);
        row.forEach((mass, j) => {
          const button = make("button", percent(mass, 2), make("td", "", line));
          button.type = "button";
          [button.dataset.m, button.dataset.n] = [i, j];
          button.setAttribute("aria-label", `image prompt ${i + 1}, text prompt ${j + 1}: ${percent(mass, 2)}`);
          button.style.backgroundColor = colour(mass * chosen.plan.length * row.length);
          button.disabled = i >= chosen.pairs.length || j >= chosen.pairs[0].length;
          button.addEventListener("click", () => choosePair(i, j));
        });
      });
      find(".plan").textContent = chosen.about;
    }
    const [row, column] = chosen.largest;
    choosePair(row, column);
  };
  cells.forEach((cell, i) => {
    cell.addEventListener("mouseenter", () => showPatch(i));
    cell.addEventListener("mouseleave", back);
    cell.addEventListener("click", () => showPatch(i));
  });
  let current = 0;
  const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns};
  grid.addEventListener("focus", () => showPatch(current));
  grid.addEventListener("blur", back);
  grid.addEventListener("keydown", event => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    const next = current + moves[event.key];
    if (next >= 0 && next < cells.length) current = next;
    showPatch(current);
  });
  section.querySelectorAll(".classes button").forEach((button, i) =>
    button.addEventListener("click", () => chooseClass(i)));
  chooseClass(0);
});
"""

MATCHED = (
    "Each map shows where a word of a class's prompt draws its mass from in the transport between the tokens of an "
    "image prompt and of a text prompt. Every word draws equally much in all, every patch gives nearly equally much: "
    "a map says how a word differs from the other words, not how important it is, nor where the thing is."
)
MATCHED_PROMPTS = (
    "Each map shows where a prompt of a class draws its mass from in the transport between the patches and the class's "
    "prompts. Every prompt draws equally much in all, every patch gives nearly equally much: a map says how a prompt "
    "differs from the class's other prompts, not how important it is, nor where the thing is."
)
NOT_MATCHED = (
    "This method matches no patches with words: it compares one feature of the whole image with one of each class. "
    "The maps show something that it does not use: the cosine of each patch's own output, taken through the final "
    "norm and projection, with the class's text. CLIP was not trained to make these mean anything, and a high one "
    "need not be where the thing is."
)


def page(title: str, explanations: Sequence[Explanation], about: str) -> str:
    """The whole page. It loads nothing from anywhere.

    Args:
        title: heading.
        explanations: all of one model.
        about: a line on what was explained.
    """
    data = {"largest": LARGEST_RATIO, "images": [_data(explanation) for explanation in explanations]}
    # "<" would end the element, or begin a comment in it, from within a string.
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    notes = NOT_MATCHED
    if explanations[0].matched:
        notes = MATCHED_PROMPTS if explanations[0].candidates[0].plan is None else MATCHED
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # A page without an icon of its own makes browsers ask for one.
        '<link rel="icon" href="data:,">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{_text(title)}</h1><p class="note">{_text(about)}</p><p class="note">{_text(notes)}</p>',
        *map(_section, explanations),
        f'<script type="application/json" id="explained">{embedded}</script>',
        f"<script>{_SCRIPT}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _section(explanation: Explanation) -> str:
    rows, columns = explanation.grid
    kind = "mass" if explanation.matched else "cosine"
    extra = '<div class="extra">visual prompt tokens: </div>' if explanation.prompts else ""
    plan = ""
    if explanation.candidates[0].plan is not None:
        plan = (
            "<h3>Plan between the prompts</h3>"
            '<div class="scroll"><table class="matrix"></table></div><p class="note plan"></p>'
        )
    hint = (
        "Words: point at one, or tap it to keep it"
        if explanation.matched
        else "Class: point at a patch for all"
    )
    return (
        f'<section class="image {kind}"><h2>{_text(explanation.name)}</h2><div class="view"><div class="seen">'
        f'<img alt="what the model sees of {_text(explanation.name)}" src="{_image(explanation.picture)}">'
        f'<div class="patches" tabindex="0" role="group" aria-label="{rows} x {columns} patches; arrow keys move">'
        f"</div></div>{extra}{_legend(explanation)}"
        f'<p class="said" aria-live="polite"></p></div><div><h3>Best classes</h3>{_classes(explanation)}{plan}'
        f'<h3>{hint}</h3><div class="words"></div><p class="note pair"></p></div></section>'
    )


def _legend(explanation: Explanation) -> str:
    if explanation.matched:
        low, high = f"1/{LARGEST_RATIO:g} or less", f"{LARGEST_RATIO:g} times or more"
        return f'<div class="legend">{low}<i></i>{high} <span>of what the uniform plan has</span></div>'
    least, most = limits(explanation)
    return f'<div class="legend">cosine {least:.3f}<i></i>{most:.3f}</div>'


def _classes(explanation: Explanation) -> str:
    two = explanation.candidates[0].uniform_prompts is not None
    one = explanation.candidates[0].uniform is not None
    heads = ["class", "probability", "score"]
    heads += ["uniform between prompts: probability", "score"] if two and explanation.matched else []
    heads += ["all uniform: probability", "score"] if one else []
    lines = []
    for candidate in explanation.candidates:
        cells = [f"{candidate.probability:.2%}", f"{candidate.logit:.3f}"]
        scores = [candidate.uniform_prompts] if explanation.matched else []
        for score in [*scores, candidate.uniform]:
            cells += [] if score is None else [f"{score[1]:.2%}", f"{score[0]:.3f}"]
        name = _text(candidate.name.replace("_", " "))
        button = f'<td><button type="button" aria-pressed="false">{name}</button></td>'
        lines.append(f"<tr>{button}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    note = f'<p class="note">{_text(with_uniform(explanation))}</p>' if one else ""
    return f'<div class="scroll"><table class="classes"><tr>{head}</tr>{"".join(lines)}</table></div>{note}'


def with_uniform(explanation: Explanation) -> str:
    """Whether the transport does anything here, in words; "" where there is none."""
    if explanation.uniform_best is None:
        return ""
    name, probability = explanation.uniform_best
    first = explanation.candidates[0]
    shown = name.replace("_", " ")
    if name == first.name:
        return (
            f"With all plans uniform the best class would be the same, with {probability:.2%} in place of "
            f"{first.probability:.2%}."
        )
    return f"With all plans uniform the best class would be another: {shown} ({probability:.2%})."


def limits(explanation: Explanation) -> tuple[float, float]:
    """The smallest and largest value of all maps."""
    values = [pair.values for one in explanation.candidates for row in one.pairs for pair in row]
    return float(min(v.min() for v in values)), float(max(v.max() for v in values))


def _data(explanation: Explanation) -> dict[str, Any]:
    least, most = limits(explanation)
    return {
        "grid": explanation.grid,
        "prompts": explanation.prompts,
        "matched": explanation.matched,
        "least": least,
        "most": most,
        "candidates": [_candidate(one, explanation.matched) for one in explanation.candidates],
    }


def _candidate(candidate: Candidate, matched: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": candidate.name.replace("_", " "),
        "pairs": [[_pair(pair, candidate.name, matched) for pair in row] for row in candidate.pairs],
        "largest": largest_pair(candidate),
    }
    if not matched:
        data["cosines"] = [round(float(value), 6) for value in candidate.pairs[0][0].values[:, 0]]
    if candidate.plan is not None:
        data["plan"] = [[round(float(mass), 6) for mass in row] for row in candidate.plan]
        data["about"] = far(candidate.distance)
    return data


def largest_pair(candidate: Candidate) -> tuple[int, int]:
    """The image and the text prompt that share most mass, of those that there are maps of."""
    if candidate.plan is None or (len(candidate.pairs), len(candidate.pairs[0])) != candidate.plan.shape:
        return 0, 0
    row, column = np.unravel_index(candidate.plan.argmax(), candidate.plan.shape)
    return int(row), int(column)


def far(distance: float | None) -> str:
    """How far a plan is from the uniform one, in words."""
    if distance is None:
        return "One side has a single part: there is no other plan."
    share = "less than 0.01%" if distance < 1e-4 else f"{distance:.2%}"
    return f"Relative entropy to the uniform plan: {share} of the largest possible."


def _pair(pair: Pair, name: str, matched: bool) -> dict[str, Any]:
    values = relative_mass(pair) if matched else pair.values
    least, most = float(values.min()), float(values.max())
    steps = np.rint((values - least) / ((most - least) or 1) * 65535).astype("<u2")
    return {
        "words": pair.words,
        "data": base64.b64encode(steps.tobytes()).decode(),
        "least": least,
        "most": most,
        "first": first_word(pair, name),
        "about": f"Tokens of this pair. {far(pair.distance)}" if matched else "",
    }


def _image(picture: Image.Image) -> str:
    """As a data URI; small ones without loss."""
    file = io.BytesIO()
    small = max(picture.size) <= 128
    if small:
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=90)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def _text(text: str) -> str:
    return html.escape(text)
