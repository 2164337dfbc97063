import numpy as np
import pytest

from datasets.toy.painting import (
    COLOURS,
    DIGITS,
    GROUNDS,
    LETTERS,
    PIPS,
    SHAPES,
    SIZE,
    STYLES,
    TEXTURES,
    Scene,
    Thing,
    paint,
)


def picture(scene: Scene, seed: int = 0) -> np.ndarray:
    return paint(scene, np.random.default_rng(seed))


def far_from(image: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Where two pictures differ by more than their noise."""
    return abs(image.astype(int) - ground.astype(int)).max(-1) > 40


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_a_picture_is_a_function_of_scene_and_generator(style: str, ground: str) -> None:
    thing = Thing("striped", "red", "star")
    for scene in (
        Scene("shapes", thing, Thing("dotted", "blue", "ring"), ground=ground, style=style),
        Scene("glyph", glyph="7", ground=ground, style=style),
        Scene("pips", thing, count=5, ground=ground, style=style),
    ):
        image = picture(scene)
        assert image.shape == (SIZE, SIZE, 3)
        assert image.dtype == np.uint8
        assert np.array_equal(image, picture(scene))
        assert not np.array_equal(image, picture(scene, seed=1))


@pytest.mark.parametrize("colour", COLOURS)
def test_the_large_thing_has_its_colour(colour: str) -> None:
    images = [picture(Scene("shapes", Thing("plain", colour, "circle")), seed) for seed in range(8)]
    middle = np.mean([image[28:36, 28:36] for image in images], axis=(0, 1, 2))
    nearest = min(COLOURS, key=lambda name: np.linalg.norm(middle - COLOURS[name]))
    assert nearest == colour


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_differ_and_lie_inside_the_picture(shape: str) -> None:
    for seed in range(10):
        image = picture(Scene("shapes", Thing("plain", "red", shape), style="sketch"), seed)
        ink = image.min(-1) < 150
        assert ink.sum() > 60
        assert not ink[0].any()
        assert not ink[-1].any()
        assert not ink[:, 0].any()
        assert not ink[:, -1].any()


def test_every_texture_of_a_thing_looks_its_own_way() -> None:
    spread = {}
    for texture in TEXTURES:
        images = [picture(Scene("shapes", Thing(texture, "blue", "square")), seed) for seed in range(6)]
        spread[texture] = np.mean([image[24:40, 24:40].std((0, 1)) for image in images])
    assert spread["plain"] < 0.5 * min(spread[texture] for texture in TEXTURES if texture != "plain")


@pytest.mark.parametrize("count", range(10))
def test_pips_are_counted(count: int) -> None:
    assert len(set(PIPS[count])) == count
    ground = picture(Scene("pips", Thing("plain", "black", "circle"), count=0, style="sketch"))
    image = picture(Scene("pips", Thing("plain", "black", "circle"), count=count, style="sketch"))
    ink = far_from(image, ground)
    spots = sum(bool(ink[y - 8 : y + 8, x - 8 : x + 8].any()) for y in (12, 32, 52) for x in (12, 32, 52))
    assert spots == count


@pytest.mark.parametrize("glyph", ["0", "5", "8", *LETTERS])
def test_characters_are_written_over_the_middle(glyph: str) -> None:
    for seed in range(5):
        image = picture(Scene("glyph", glyph=glyph), seed).astype(int)
        assert np.ptp(image.mean(-1)) > 40


def test_names() -> None:
    assert Thing("striped", "red", "triangle").name == "striped red triangle"
    assert len(DIGITS) == 10


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape 'blob' is unknown; one of circle, square"):
        picture(Scene("shapes", Thing("plain", "red", "blob")))
    with pytest.raises(ValueError, match="texture 'furry' is unknown; one of plain, striped"):
        picture(Scene("shapes", Thing("furry", "red", "circle")))
