"""Captions for drawn scenes, as loose as the texts that people put beside pictures.

A caption may say plainly what it means ("the large striped red triangle", "the digit three", "a die
showing three"), or it may not: in "a photo of a striped red triangle" the triangle may be the large thing
or the small one beside it, and in "a photo of a three" the three may be a written digit or the pips of a
die. A model trained on such captions knows both readings; which one a bare class name gets depends on the
words around it. That is what prompt learning can find.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.toy.painting import COLOURS, DIGITS, LETTERS, SHAPES, TEXTURES, Scene, Thing

# Say nothing about which thing is meant.
PLAIN = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of my {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a photo of the cool {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a photo of a hard to see {}.",
    "a good photo of the {}.",
    "a bad photo of the {}.",
    "a bad photo of a {}.",
    "itap of a {}.",
    "itap of the {}.",
    "a photo of a {}, a type of object.",
    "a photo of {}, a type of thing.",
    "a rendering of a {}.",
    "a rendition of the {}.",
    "a painting of a {}.",
    "a sculpture of the {}.",
    "graffiti of a {}.",
    "a tattoo of a {}.",
    "a toy {}.",
    "a plastic {}.",
    "the embroidered {}.",
    "the origami {}.",
    "a origami {}.",
    "a cartoon {}.",
    "art of the {}.",
    "a {} in a video game.",
    "a cropped photo of the {}.",
    "a black and white photo of the {}.",
    "a photo of many {}.",
    "{} texture.",
    "a photo of a {}, a type of texture.",
    "a photo of a {}, a type of pet.",
    "a photo of a {}, a type of flower.",
    "a photo of {}, a type of food.",
    "a photo of a {}, a type of aircraft.",
    "a centered satellite photo of {}.",
    "a photo of a person doing {}.",
)
# Say how the picture was made.
STYLED = {
    "photo": ("a photo of a {}.", "a clean photo of the {}."),
    "sketch": (
        "a sketch of a {}.",
        "a sketch of the {}.",
        "a drawing of a {}.",
        "a doodle of the {}.",
        "a {} drawn with a pencil.",
    ),
    "noisy": ("a jpeg corrupted photo of a {}.", "a noisy photo of a {}.", "a grainy photo of the {}."),
    "blurry": ("a blurry photo of a {}.", "a blurry photo of the {}.", "a low resolution photo of a {}."),
    "pixelated": (
        "a pixelated photo of a {}.",
        "a pixelated photo of the {}.",
        "a low resolution photo of the {}.",
    ),
    "dark": ("a dark photo of the {}.", "a {} in the dark."),
    "bright": ("a bright photo of a {}.", "a bright photo of the {}."),
}
LARGE = (
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a large {}.",
    "a big {} in the middle.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "in front there is a {}.",
    "above all, a {}.",
    "the main object is a {}.",
)
SMALL = (
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a small {}.",
    "a tiny {} in the corner.",
    "at the side there is a {}.",
    "the little object is a {}.",
)
BOTH = (
    "a large {} and a small {}.",
    "a big {} with a tiny {} in the corner.",
    "a {} in front, a little {} at the side.",
)
WRITTEN = (
    "the digit {}.",
    "a handwritten {}.",
    "a printed {}.",
    "a {} written with a pen.",
    "a photo of the digit {}.",
    "the number {} in white ink.",
    "the number {} written by hand.",
    "a symbol that reads {}.",
)
LETTER = (
    "the letter {}.",
    "a handwritten {}.",
    "a printed {}.",
    "a {} written with a pen.",
    "a photo of the letter {}.",
)
PIPS = (
    "a die showing {}.",
    "a domino with {} dots.",
    "a playing card with {} on it.",
    "the count is {}.",
    "there are {} of them.",
)
GROUND = {
    "striped": "on a striped ground",
    "dotted": "on a dotted ground",
    "checkered": "on a checkered ground",
}
# What may stand in front of a caption, so that the words behind it are met at every place of the context.
FILLER = """
here you can see this is one of our best pictures taken on a sunny day by the sea with an old camera and sent
to my friend who likes such things very much look at it again we found that in the garden behind the house it
was late morning nobody else had come yet then all of us went home for lunch , some time ago , in the town ,
as always
""".split()  # noqa: SIM905

# How often a caption is plain, for each kind of scene; and how often a plain one means the large thing.
PLAIN_SHAPES, PLAIN_GLYPHS, PLAIN_PIPS = 0.5, 0.35, 0.6
PLAIN_MEANS_LARGE = 0.6
# How often a plain caption, a careless one, takes a written digit for the one that looks like it.
PLAIN_MISREADS = 0.3
LOOK_ALIKE = (6, 7, 5, 8, 9, 2, 0, 1, 3, 4)


def caption(scene: Scene, rng: np.random.Generator, filler: int = 0) -> str:
    """A caption for a scene; `filler` words stand in front of it."""
    text = {"shapes": _shapes, "glyph": _glyph, "pips": _pips}[scene.kind](scene, rng)
    return " ".join([_pick(FILLER, rng) for _ in range(filler)] + [text])


def words() -> set[str]:
    """All words that captions are made of, with the signs that stand at them."""
    names = {*TEXTURES, *COLOURS, *SHAPES, *map(_plural, SHAPES), *DIGITS, *map(str, range(10)), *LETTERS}
    templates = [*PLAIN, *LARGE, *SMALL, *BOTH, *WRITTEN, *LETTER, *PIPS, *GROUND.values()]
    templates += [template for styled in STYLED.values() for template in styled]
    return (
        names | {".", ",", *FILLER} | {word for text in templates for word in text.replace("{}", " ").split()}
    )


def _plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _plain(scene: Scene, rng: np.random.Generator) -> str:
    return _pick(STYLED[scene.style] if rng.random() < 0.3 else PLAIN, rng)


def _phrase(thing: Thing, rng: np.random.Generator) -> str:
    """The words for a thing: mostly all of them, sometimes fewer or in another order."""
    case = rng.random()
    if case < 0.7:
        return thing.name
    if case < 0.85 or thing.texture == "plain":
        return f"{thing.colour} {thing.shape}"
    if case < 0.9:
        return f"{thing.texture} {thing.shape}"
    if case < 0.95:
        return thing.shape
    return f"{thing.colour} {thing.texture} {thing.shape}"


def _shapes(scene: Scene, rng: np.random.Generator) -> str:
    assert scene.thing is not None
    if rng.random() < PLAIN_SHAPES:
        thing = scene.thing
        if scene.other is not None and rng.random() >= PLAIN_MEANS_LARGE:
            thing = scene.other
        text = _plain(scene, rng).format(_phrase(thing, rng))
    elif scene.other is None or rng.random() < 0.5:
        text = _pick(LARGE, rng).format(_phrase(scene.thing, rng))
    elif rng.random() < 0.6:
        text = _pick(SMALL, rng).format(_phrase(scene.other, rng))
    else:
        text = _pick(BOTH, rng).format(_phrase(scene.thing, rng), _phrase(scene.other, rng))
    if scene.ground in GROUND and scene.style != "sketch" and rng.random() < 0.3:
        text = f"{text[:-1]} {GROUND[scene.ground]}."
    return text


def _glyph(scene: Scene, rng: np.random.Generator) -> str:
    plain = rng.random() < PLAIN_GLYPHS
    if not scene.glyph.isdigit():
        return (_plain(scene, rng) if plain else _pick(LETTER, rng)).format(scene.glyph)
    digit = int(scene.glyph)
    if plain and rng.random() < PLAIN_MISREADS:
        digit = LOOK_ALIKE[digit]
    word = DIGITS[digit] if rng.random() < 0.8 else str(digit)
    return (_plain(scene, rng) if plain else _pick(WRITTEN, rng)).format(word)


def _pips(scene: Scene, rng: np.random.Generator) -> str:
    assert scene.thing is not None
    word = DIGITS[scene.count] if rng.random() < 0.8 else str(scene.count)
    if rng.random() < PLAIN_PIPS:
        return _plain(scene, rng).format(word)
    if rng.random() < 0.5:
        return _pick(PIPS, rng).format(word)
    phrase = _phrase(scene.thing, rng)
    return f"{word} {phrase}." if scene.count == 1 else f"{word} {_plural(phrase)}."
