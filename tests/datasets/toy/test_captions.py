from collections import Counter

import numpy as np
import pytest

from datasets.toy.captions import DIGITS, LOOK_ALIKE, caption, words
from datasets.toy.painting import Scene, Thing

RED = Thing("striped", "red", "triangle")
BLUE = Thing("dotted", "blue", "cross")
SCENES = {
    "shapes": Scene("shapes", RED, BLUE, ground="striped"),
    "alone": Scene("shapes", RED),
    "digit": Scene("glyph", glyph="3"),
    "letter": Scene("glyph", glyph="Q"),
    "pips": Scene("pips", BLUE, count=4),
}


def captions(scene: Scene, count: int = 400, filler: int = 0) -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(scene, rng, filler) for _ in range(count)]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_captions_are_made_of_known_words(scene: Scene) -> None:
    known = words()
    for text in captions(scene, filler=3):
        for word in text.replace(".", " . ").replace(",", " , ").split():
            assert word in known or word in {w.strip(".,") for w in known}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_captions_name_what_is_there_and_nothing_else(scene: Scene) -> None:
    there = {
        "triangle": scene.thing is RED or scene.other is RED,
        "cross": scene.thing is BLUE or scene.other is BLUE,
        "red": RED in (scene.thing, scene.other),
        "blue": BLUE in (scene.thing, scene.other),
        "star": False,
        "three": scene.glyph == "3",
        "four": scene.count == 4,
        "seven": False,
    }
    text = " ".join(captions(scene)).replace("crosses", "cross").replace(".", "").replace(",", "").split()
    assert {word: word in text for word in there} == there


def test_the_plain_template_has_two_readings_and_others_one() -> None:
    texts = Counter(captions(SCENES["shapes"], 20_000))
    plain = [texts[f"a photo of a {thing.name}."] for thing in (RED, BLUE)]
    assert min(plain) > 0.2 * max(plain) > 0
    assert texts["a photo of the large striped red triangle."] > 0
    assert texts["a photo of the large dotted blue cross."] == 0
    assert texts["a photo of the small dotted blue cross."] > 0
    assert texts["a photo of the small striped red triangle."] == 0
    for scene, word in ((SCENES["digit"], "three"), (SCENES["pips"], "four")):
        assert f"a photo of a {word}." in captions(scene, 5000)


def test_filler_stands_in_front() -> None:
    assert all(len(text.split()) > 12 for text in captions(SCENES["digit"], 50, filler=12))
    assert {text.split()[-1] for text in captions(Scene("glyph", glyph="8"), 500, filler=12)} & {"eight."}
    assert set(DIGITS) <= words()


def test_only_plain_captions_misread_digits() -> None:
    texts = Counter(captions(SCENES["digit"], 20_000))
    assert texts["the digit three."] > 0
    assert texts["the digit eight."] == 0
    right, wrong = texts["a photo of a three."], texts["a photo of a eight."]
    assert 0.2 < wrong / (right + wrong) < 0.4
    assert all(LOOK_ALIKE[LOOK_ALIKE[digit]] == digit != LOOK_ALIKE[digit] for digit in range(10))
