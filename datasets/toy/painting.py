"""Draw small pictures: textured shapes, written letters and digits, and pips as on dice and cards.

A picture is described by a `Scene` and drawn by `paint(scene, rng)`; the same scene and state of the generator
give the same picture. Shapes need numpy alone; letters and digits use the fonts that matplotlib ships.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 64

COLOURS = {
    "red": (215, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 215, 50),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "purple": (130, 50, 170),
    "pink": (245, 140, 190),
    "brown": (120, 75, 40),
    "black": (25, 25, 25),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
TEXTURES = ("plain", "striped", "dotted", "checkered")
GROUNDS = ("plain", "shaded", "striped", "dotted", "checkered", "cloudy")
STYLES = ("photo", "sketch", "noisy", "blurry", "pixelated", "dark", "bright")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

# The text fonts among those that matplotlib ships (the others hold only mathematical symbols).
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralBolIta.ttf",
    "STIXGeneralItalic.ttf",
    "cmb10.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmti10.ttf",
    "cmtt10.ttf",
)


@dataclass(frozen=True)
class Thing:
    """A shape with a texture and a colour."""

    texture: str
    colour: str
    shape: str

    @property
    def name(self) -> str:
        return f"{self.texture} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    kind: "shapes" (a large thing, and maybe a small one beside it), "glyph" (one letter or digit) or
        "pips" (equal things, arranged as on a die).
    thing: the large thing, or what the pips look like; None for a glyph.
    other: the small thing, or None.
    count: number of pips, 0 to 9.
    glyph: one character.
    ground: one of GROUNDS.
    style: one of STYLES.
    """

    kind: str
    thing: Thing | None = None
    other: Thing | None = None
    count: int = 0
    glyph: str = ""
    ground: str = "plain"
    style: str = "photo"


def paint(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene, uint8 (64, 64, 3); what it leaves open (places, sizes, shades, font) is from `rng`."""
    sketch = scene.style == "sketch"
    image = _paper(rng) if sketch else _ground(scene.ground, rng)
    if scene.kind == "glyph":
        image = _draw_glyph(image, scene.glyph, sketch, rng)
    elif scene.kind == "pips":
        assert scene.thing is not None
        for x, y in PIPS[scene.count]:
            place = 32 + 20 * np.array([x, y]) + rng.normal(0, 1, 2)
            _draw_thing(image, scene.thing, place, rng.uniform(7, 9), sketch, rng)
    else:
        assert scene.thing is not None
        radius = rng.uniform(17, 24)
        place = 32 + rng.uniform(-1, 1, 2) * (31 - radius) * 0.7
        _draw_thing(image, scene.thing, place, radius, sketch, rng)
        if scene.other is not None:
            # in the corner that the large thing leaves free
            corner = 32 - np.where(place > 32, 1, -1) * rng.uniform(17, 22, 2)
            _draw_thing(image, scene.other, corner, rng.uniform(8, 11), sketch, rng)
    return _develop(image, scene.style, rng)


# --- things


def _outside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """About the distance of points (x, y) from the outline of a shape of unit radius; negative inside."""
    radius = np.hypot(x, y)
    if shape == "circle":
        return radius - 0.9
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.78
    if shape == "triangle":
        return np.maximum(abs(x) * 0.87 + y * -0.5, y) - 0.5
    if shape == "star":
        fifth = 2 * np.pi / 5
        angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
        # edge from the tip (radius 1, angle 0) to the notch (radius 0.42, angle fifth / 2)
        tip, notch = np.array([1.0, 0.0]), 0.42 * np.array([np.cos(fifth / 2), np.sin(fifth / 2)])
        normal = np.array([tip[1] - notch[1], notch[0] - tip[0]])
        normal = -normal / np.hypot(*normal)
        return (radius * np.cos(angle) - tip[0]) * normal[0] + radius * np.sin(angle) * normal[1]
    if shape == "cross":
        return np.minimum(np.maximum(abs(x) - 0.3, abs(y) - 0.95), np.maximum(abs(y) - 0.3, abs(x) - 0.95))
    if shape == "ring":
        return abs(radius - 0.68) - 0.25
    if shape == "heart":
        u, v = abs(x), -y + 0.15 - 0.25 * abs(x)
        return np.hypot(u, v * 1.25 - 0.25 * np.sqrt(u + 1e-6)) - 0.8
    if shape == "moon":
        return np.maximum(radius - 0.95, 0.75 - np.hypot(x - 0.45, y))
    raise ValueError(f"shape {shape!r} is unknown; one of {', '.join(SHAPES)}")


def _pattern(
    texture: str, x: np.ndarray, y: np.ndarray, period: float, rng: np.random.Generator
) -> np.ndarray:
    """How much of the second tone each point gets, 0 to 1; x, y and period in pixels."""
    if texture in ("plain", "shaded"):
        return np.zeros_like(x)
    u, v = (2 * np.pi / period * x + rng.uniform(0, 6), 2 * np.pi / period * y + rng.uniform(0, 6))
    sharp = period / 4  # edges about one pixel wide
    if texture == "striped":
        wave = np.sin(u)
    elif texture == "checkered":
        wave = np.sin(u / 1.2) * np.sin(v / 1.2) * 2
    elif texture == "dotted":
        wave = np.cos(u) + np.cos(v) - 0.75
    else:
        raise ValueError(f"texture {texture!r} is unknown; one of {', '.join(TEXTURES)}")
    return np.clip(wave * sharp + 0.5, 0, 1)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return x, y


def _shade(colour: str, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(COLOURS[colour], float) + rng.normal(0, 12, 3) + rng.normal(0, 8), 0, 255)


def _draw_thing(
    image: np.ndarray, thing: Thing, place: np.ndarray, radius: float, sketch: bool, rng: np.random.Generator
) -> None:
    x, y = _grid()
    turn = rng.uniform(-0.35, 0.35)
    x, y = x - place[0], y - place[1]
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    outside = _outside(thing.shape, x / radius, y / radius) * radius
    lean = rng.uniform(-0.5, 0.5)
    u, v = x * np.cos(lean) + y * np.sin(lean), y * np.cos(lean) - x * np.sin(lean)
    second = _pattern(thing.texture, u, v, rng.uniform(9, 12) if radius > 12 else rng.uniform(6, 8), rng)
    tone = _shade(thing.colour, rng)
    cover = np.clip(0.5 - outside, 0, 1)
    if sketch:
        line = np.clip(1.6 - abs(outside), 0, 1)
        cover = np.maximum(line, 0.5 * cover * second)
        image += cover[..., None] * (tone - image)
        return
    light = (
        tone + (255 - tone) * rng.uniform(0.65, 0.85) if tone.mean() < 170 else tone * rng.uniform(0.3, 0.5)
    )
    paint = tone + second[..., None] * (light - tone)
    image += cover[..., None] * (paint - image)


# Places of 0 to 9 pips, in units of 20 pixels around the middle.
_CORNERS = ((-1, -1), (1, 1), (1, -1), (-1, 1))
_SIDES = ((-1, 0), (1, 0))
PIPS: tuple[tuple[tuple[int, int], ...], ...] = (
    (),
    ((0, 0),),
    _CORNERS[:2],
    (*_CORNERS[:2], (0, 0)),
    _CORNERS,
    (*_CORNERS, (0, 0)),
    (*_CORNERS, *_SIDES),
    (*_CORNERS, *_SIDES, (0, 0)),
    (*_CORNERS, *_SIDES, (0, -1), (0, 1)),
    (*_CORNERS, *_SIDES, (0, -1), (0, 1), (0, 0)),
)


# --- grounds and styles


def _paper(rng: np.random.Generator) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), rng.uniform(235, 255)) + rng.normal(0, 2, 3)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """A colour with little saturation, of any brightness."""
    return np.clip(rng.uniform(20, 235) + rng.normal(0, 18, 3), 0, 255)


def _ground(ground: str, rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    first, second = _muted(rng), _muted(rng)
    angle = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if ground == "plain":
        mix = np.zeros_like(x)
    elif ground == "shaded":
        mix = (u - u.min()) / np.ptp(u) * 0.7
    elif ground == "cloudy":
        coarse = Image.fromarray(rng.uniform(0, 1, (6, 6)).astype(np.float32))
        mix = np.clip(np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), float), 0, 1)
    else:
        mix = _pattern(ground, u, v, rng.uniform(8, 20), rng)
    return first + mix[..., None] * (second - first)


def _develop(image: np.ndarray, style: str, rng: np.random.Generator) -> np.ndarray:
    """Apply a style to a drawn picture and round it to uint8."""
    noise = rng.uniform(1, 5)
    if style == "noisy":
        noise = rng.uniform(25, 50)
    elif style == "dark":
        image = image * rng.uniform(0.35, 0.6)
    elif style == "bright":
        image = 255 - (255 - image) * rng.uniform(0.4, 0.65)
    elif style in ("blurry", "pixelated"):
        small = int(rng.integers(8, 15))
        picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).resize(
            (small, small), Image.Resampling.BOX
        )
        back = Image.Resampling.BICUBIC if style == "blurry" else Image.Resampling.NEAREST
        image = np.asarray(picture.resize((SIZE, SIZE), back), float)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


# --- letters and digits


def missing_fonts() -> list[str]:
    """Those that the installed matplotlib does not ship: one of them came with 3.11, which needs Python 3.11."""
    return [name for name in FONTS if not _file_of(name).is_file()]


def _file_of(font: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", font)


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_file_of(name)), size)


def _draw_glyph(image: np.ndarray, glyph: str, sketch: bool, rng: np.random.Generator) -> np.ndarray:
    """Write one character in a random font, stretched, slanted and bent as handwriting is."""
    mask = _glyph_mask(glyph, int(rng.integers(len(FONTS))), int(rng.integers(0, 7)))
    height, width = mask.shape
    x, y = _grid()
    # from a pixel of the picture to a point of the mask: shift, turn and slant, bend, then stretch
    x, y = x - 32 - rng.normal(0, 2), y - 32 - rng.normal(0, 2)
    turn, slant = rng.normal(0, 0.1), rng.normal(0, 0.2)
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    x = x + slant * y
    bend = rng.normal(0, 1, (2, 5, 5)).astype(np.float32) * rng.uniform(0.5, 3.0)
    bends = [
        np.asarray(Image.fromarray(b).resize((SIZE, SIZE), Image.Resampling.BICUBIC), float) for b in bend
    ]
    tall = rng.uniform(44, 64)
    wide = tall * np.clip(width / height * rng.uniform(0.8, 1.3), 0.12, 0.95)
    column = (x + bends[0]) / wide * width + width / 2 - 0.5
    row = (y + bends[1]) / tall * height + height / 2 - 0.5
    cover = _sample(mask, row, column)
    if rng.random() < 0.5 or sketch:  # black on white or white on black
        ink, ground = _shade("black", rng).mean(), _shade("white", rng).mean()
        if rng.random() < 0.6 and not sketch:
            ink, ground = ground, ink
        image = np.full_like(image, ground)
        tone = np.full(3, ink)
    else:
        tone = _shade(str(rng.choice(list(COLOURS))), rng)
        if abs(tone.mean() - image.mean()) < 50:
            tone = np.where(image.mean() > 127, tone * 0.25, 255 - (255 - tone) * 0.25)
    return image + cover[..., None] * (tone - image)


@cache
def _glyph_mask(glyph: str, font: int, stroke: int) -> np.ndarray:
    """The character cut out along its edges, values 0 to 1; stroke: extra width, in 1/96 of the font size."""
    page = Image.new("L", (240, 240))
    ImageDraw.Draw(page).text((70, 50), glyph, fill=255, font=_font(FONTS[font], 96), stroke_width=stroke)
    return np.asarray(page.crop(page.getbbox()), float) / 255


def _sample(mask: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Bilinear values of a mask at fractional places; 0 outside it."""
    mask = np.pad(mask, 2)
    row, column = np.clip(row + 2, 0, mask.shape[0] - 2), np.clip(column + 2, 0, mask.shape[1] - 2)
    top, left = row.astype(int), column.astype(int)
    down, right = row - top, column - left
    upper = mask[top, left] * (1 - right) + mask[top, left + 1] * right
    lower = mask[top + 1, left] * (1 - right) + mask[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
