"""The page in a browser: pointing, tapping, keys, a narrow window, dark and light."""

import json
import re

import numpy as np
import pytest

from datasets.shapes import THINGS
from tests.tools.browser import Page, in_a_browser, in_browser, luminance
from tests.tools.explaining.models import NAMES, ready, side_by_side
from tools.explaining.colours import of_cosines, of_mass
from tools.explaining.maps import explain, relative_mass
from tools.explaining.page import far, largest_pair, limits, page

# What a reader sees of the first image: alpha of each cell, what is said, which buttons are pressed.
LOOK = """
const section = document.querySelector(".image"), find = name => section.querySelector(name);
const all = name => [...section.querySelectorAll(name)];
const alphas = elements => elements.map(element => {
  const numbers = getComputedStyle(element).backgroundColor.match(/[\\d.]+/g).map(Number);
  return numbers.length > 3 ? numbers[3] : 1;
});
const cells = () => [...all(".patches span"), ...all(".extra span")];
const warm = () => cells().map(cell => Number(getComputedStyle(cell).backgroundColor.match(/[\\d.]+/g)[0] > 100));
const look = () => ({alphas: alphas(cells()), warm: warm(), said: find(".said").textContent,
  words: all(".words button").map(button => button.textContent),
  pinned: all(".words button[aria-pressed=true]").map(button => button.textContent),
  classes: all(".classes button[aria-pressed=true]").map(button => button.textContent),
  pairs: all(".matrix button[aria-pressed=true]").map(button => [button.dataset.m, button.dataset.n].map(Number))});
const on = (element, type, more = {}) => element.dispatchEvent(new KeyboardEvent(type, {bubbles: false, ...more}));
// A window in the background moves its focus, too, but sends no events of it: a busy machine opens it late.
const move = (element, type) => { element[type](); if (!document.hasFocus()) on(element, type); };
const seen = [look()];
"""
SAY = "document.title = JSON.stringify(seen);"


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """Three images, explained by MMTPA."""
    model, transform = ready("MMTPA", tmp_path_factory.mktemp("model"))
    rng = np.random.default_rng(3)
    pictures = [side_by_side(THINGS[i], THINGS[47 - i], rng) for i in range(2)]
    return [
        explain(model, picture, transform, NAMES, 3, f"</script><b>{i}</b> &.png")
        for i, picture in enumerate(pictures)
    ]


def seen_in(explanations, script, tmp_path, **window):
    return json.loads(
        in_a_browser(page("<i>Title</i>", explanations, "about"), LOOK + script + SAY, tmp_path, **window)
    )


def test_names_are_text_and_nothing_is_loaded(explained):
    text = page("<i>Title</i>", explained, "a & b")
    parsed = Page(text)
    assert (parsed.loads, parsed.open) == ([], [])
    assert text.count("</script>") == 2
    assert "&lt;i&gt;Title" in text
    assert "&lt;b&gt;0&lt;/b&gt; &amp;.png" in text
    assert not re.search("<i>Title|<b>", text)
    assert not re.search(r"https?://", text)


@in_browser
def test_pointing_at_a_word_shows_its_map(explained, tmp_path):
    script = """
    const words = all(".words button");
    words.forEach(word => { on(word, "mouseenter"); seen.push(look()); on(word, "mouseleave"); seen.push(look()); });
    """
    first, *others = seen_in(explained, script, tmp_path)
    candidate = explained[0].candidates[0]
    m, n = largest_pair(candidate)
    pair = candidate.pairs[m][n]
    assert first["words"] == pair.words
    assert first["classes"] == [candidate.name]
    assert first["pairs"] == [[m, n]]
    assert len(others) == 2 * len(pair.words)
    expected = of_mass(relative_mass(pair))
    for number, word in enumerate(pair.words):
        shown = others[2 * number]
        assert shown["alphas"] == pytest.approx(expected[:, number, 3], abs=0.01)
        strong = expected[:, number, 3] > 0.05
        assert np.array_equal(np.array(shown["warm"])[strong], (expected[:, number, 0] > 0.5)[strong])
        assert shown["said"].startswith(f"“{word}” draws most from ")
        assert others[2 * number + 1] == first  # the map of the word that is kept


@in_browser
def test_keys_and_taps_do_the_same(explained, tmp_path):
    script = """
    const words = all(".words button");
    move(words[1], "focus"); seen.push(look());
    move(words[1], "blur"); seen.push(look());
    words[2].click(); move(words[2], "blur"); seen.push(look());
    """
    first, focused, blurred, tapped = seen_in(explained, script, tmp_path)
    assert focused["said"].startswith("“v1” draws")
    assert blurred == first
    assert (tapped["pinned"], tapped["said"][:4]) == (["v2"], "“v2”")


@in_browser
def test_pointing_at_a_patch_shows_its_words(explained, tmp_path):
    script = """
    on(cells()[6], "mouseenter"); seen.push({...look(), words: alphas(all(".words button"))});
    on(cells()[6], "mouseleave"); seen.push(look());
    on(cells()[17], "mouseenter"); seen.push(look()); on(cells()[17], "mouseleave");
    move(find(".patches"), "focus"); seen.push(look());
    on(find(".patches"), "keydown", {key: "ArrowDown"}); on(find(".patches"), "keydown", {key: "ArrowRight"});
    seen.push(look());
    """
    first, pointed, left, beside, focused, moved = seen_in(explained, script, tmp_path)
    candidate = explained[0].candidates[0]
    m, n = largest_pair(candidate)
    pair = candidate.pairs[m][n]
    assert pointed["words"] == pytest.approx(of_mass(relative_mass(pair))[6, :, 3], abs=0.01)
    most = pair.words[pair.values[6].argmax()]
    share = pair.values[6].max() / pair.values[6].sum()
    assert pointed["said"].startswith(f"row 2, column 3: of its mass goes {100 * share:.1f}% to “{most}”, ")
    assert left == first
    assert beside["said"].startswith("visual prompt token 2: of its mass")
    assert focused["said"].startswith("row 1, column 1:")
    assert moved["said"].startswith("row 2, column 2:")


@in_browser
def test_another_class_and_another_pair(explained, tmp_path):
    script = """
    all(".classes button")[2].click(); seen.push(look());
    all(".matrix button")[7].click(); seen.push(look());
    seen.push({plan: find(".plan").textContent, pair: find(".pair").textContent});
    """
    _, other, pair, texts = seen_in(explained, script, tmp_path)
    candidate = explained[0].candidates[2]
    assert other["classes"] == [candidate.name]
    assert other["words"] == candidate.pairs[0][0].words
    assert pair["pairs"] == [[1, 3]]
    chosen = candidate.pairs[1][3]
    word = chosen.words.index(pair["pinned"][0])
    assert pair["alphas"] == pytest.approx(of_mass(relative_mass(chosen))[:, word, 3], abs=0.01)
    assert texts["plan"] == far(candidate.distance)
    assert texts["pair"].endswith(far(chosen.distance))


@in_browser
@pytest.mark.parametrize("method", ["CoOp", "PLOT", "VPT"])
def test_other_methods(method, tmp_path):
    model, transform = ready(method, tmp_path)
    picture = side_by_side(THINGS[0], THINGS[30], np.random.default_rng(0))
    explanation = explain(model, picture, transform, NAMES, 3, "one.png")
    text = page(method, [explanation], "about")
    [first, patch] = json.loads(
        in_a_browser(text, LOOK + 'on(cells()[3], "mouseenter"); seen.push(look());' + SAY, tmp_path)
    )
    candidate = explanation.candidates[0]
    assert first["words"] == candidate.pairs[0][0].words
    values = candidate.pairs[0][0].values
    if method == "PLOT":
        assert "uniform" in text
        assert first["alphas"] == pytest.approx(of_mass(values * values.size)[:, 0, 3], abs=0.01)
    else:
        assert "matches no patches with words" in text
        assert first["alphas"] == pytest.approx(
            of_cosines(values[:, 0], *limits(explanation))[:, 3], abs=0.01
        )
        assert patch["said"].startswith(f"row 1, column 4: {candidate.name} {values[3, 0]:.3f}, ")


@in_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window(explained, tmp_path, dark):
    script = """
    const style = getComputedStyle(document.body), word = all(".words button")[0];
    word.scrollIntoView(); word.click();
    const view = find(".view").getBoundingClientRect();
    seen.push([innerWidth, document.documentElement.scrollWidth, view.top, view.bottom,
      word.getBoundingClientRect().right, style.color, style.backgroundColor, getComputedStyle(word).color,
      getComputedStyle(word).backgroundColor]);
    """
    _, (width, whole, top, bottom, right, ink, paper, *_) = seen_in(
        explained, script, tmp_path, width=400, dark=dark
    )
    assert whole <= width  # the page does not scroll sideways
    assert right <= width
    assert bottom > 0
    assert top < 900  # the map is in sight while its words are
    assert luminance(ink) > 0.6 if dark else luminance(ink) < 0.2
    assert luminance(paper) < 0.1 if dark else luminance(paper) > 0.9


@in_browser
def test_each_image_has_maps_of_its_own(explained, tmp_path):
    script = """
    seen.push([...document.querySelectorAll(".image")].map(image => image.querySelectorAll(".patches span").length));
    seen.push([...document.querySelectorAll(".said")].map(said => said.textContent));
    """
    _, counts, said = seen_in(explained, script, tmp_path)
    assert counts == [16, 16]
    assert all(text.startswith("“") for text in said)
