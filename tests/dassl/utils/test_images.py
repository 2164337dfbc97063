import contextlib
import errno
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dassl.utils import read_image

GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([GRADIENT, GRADIENT.T, 255 - GRADIENT], axis=-1)


def pixels(path, **options) -> np.ndarray:
    image = read_image(path, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_read_as_it_is(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOURS)


def test_grey_is_repeated(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), np.repeat(GRADIENT[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("brightest", [255, 90, 1, 0])
def test_16_bit_grey_has_one_scale(tmp_path, suffix, brightest):
    values = np.minimum(GRADIENT, brightest)
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a.{suffix}")[..., 0], values)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / f"b.{suffix}")
    assert pixels(tmp_path / f"b.{suffix}").max() == round(brightest / 257)  # nearly black, as it is


@pytest.mark.parametrize("brightest", [255, 90, 1, 0])
def test_float_grey_has_one_scale(tmp_path, brightest):
    values = np.minimum(GRADIENT, brightest)
    Image.fromarray(values.astype(np.float32) / 255).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif")[..., 1], values)


def test_white_is_what_the_caller_says(tmp_path):
    Image.fromarray(GRADIENT.astype(np.uint16) * 16).save(tmp_path / "12.png")  # 12 bits in 16
    assert np.abs(pixels(tmp_path / "12.png", white=4080)[..., 0].astype(int) - GRADIENT).max() == 0
    Image.fromarray(GRADIENT.astype(np.int32) * 1000).save(tmp_path / "32.tif")
    assert np.array_equal(pixels(tmp_path / "32.tif", white=255_000)[..., 0], GRADIENT)
    Image.fromarray(GRADIENT.astype(np.float32)).save(tmp_path / "f.tif")
    assert np.array_equal(pixels(tmp_path / "f.tif", white=255)[..., 0], GRADIENT)
    assert pixels(tmp_path / "f.tif", white=100).max() == 255  # what is brighter than white is white
    Image.fromarray(GRADIENT).save(tmp_path / "8.png")
    assert np.array_equal(pixels(tmp_path / "8.png", white=4095)[..., 0], GRADIENT)  # 8 bits need no telling


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (GRADIENT.astype(np.int32), "integers of 32 bits, and how bright white is"),
        (GRADIENT.astype(np.float32), r"values from 0 to 255, not from 0 \(black\) to 1 \(white\)"),
        (GRADIENT.astype(np.float32) / 255 - 0.5, "values from -0.5 to 0.5, not from 0"),
        (np.where(GRADIENT, np.nan, 1).astype(np.float32), "values that are not finite"),
    ],
)
def test_values_without_a_known_white_are_refused(tmp_path, values, reason):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=reason) as caught:
        read_image(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)
    if not np.isnan(values).any():
        assert "INPUT.WHITE" in str(caught.value)


def test_orientation_tags_count_when_they_are_asked_for(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOURS)  # as published numbers were made
    assert np.array_equal(pixels(tmp_path / "a.png", exif=True), np.rot90(COLOURS, -1))
    Image.fromarray(COLOURS).save(tmp_path / "b.png")
    assert np.array_equal(pixels(tmp_path / "b.png", exif=True), COLOURS)


def test_cmyk(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK")
    flat.save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - [200, 30, 60]).max() <= 3


def test_palette_and_transparency_without_a_warning(tmp_path):
    palette = Image.fromarray(COLOURS).quantize(16)
    palette.save(tmp_path / "p.png", transparency=bytes(range(16)))
    Image.fromarray(np.dstack([COLOURS, GRADIENT])).save(tmp_path / "rgba.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(pixels(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))
        assert np.array_equal(pixels(tmp_path / "rgba.png"), COLOURS)


def test_conversions_are_those_of_pil(tmp_path):
    """Dassl's read_image is Image.open(path).convert("RGB"); published numbers were made with it."""
    alpha = Image.fromarray(GRADIENT.T)
    made = {
        "1.png": Image.fromarray(GRADIENT > 99),
        "L.png": Image.fromarray(GRADIENT),
        "LA.png": Image.merge("LA", [Image.fromarray(GRADIENT), alpha]),
        "P.png": Image.fromarray(COLOURS).quantize(16),
        "RGBA.png": Image.fromarray(np.dstack([COLOURS, GRADIENT])),
        "CMYK.jpg": Image.fromarray(COLOURS).convert("CMYK"),
        "CMYK.tif": Image.fromarray(COLOURS).convert("CMYK"),
        "YCbCr.jpg": Image.fromarray(COLOURS).convert("YCbCr"),
    }
    for name, image in made.items():
        image.save(tmp_path / name)
    made["P.png"].save(tmp_path / "one.png", transparency=3)
    made["L.png"].save(tmp_path / "grey.png", transparency=3)
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert np.array_equal(pixels(path), np.asarray(image.convert("RGB"))), path.name


def test_of_colours_of_16_bits_the_upper_eight_are_read(tmp_path):
    """Written by hand: Pillow writes none."""
    deep = (COLOURS.astype(int) * 256 + 99).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOURS)


def test_of_several_pictures_the_first_is_read(tmp_path):
    pictures = [Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)]
    for name, options in {
        "a.tif": {},
        "a.webp": {"lossless": True},
        "a.png": {"default_image": False},
    }.items():
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], **options)
        assert np.array_equal(pixels(tmp_path / name), COLOURS)


def test_a_long_text_does_not_make_an_image_unreadable(tmp_path):
    text = PngInfo()
    text.add_text("workflow", "x" * (3 << 20), zip=True)
    Image.fromarray(COLOURS).save(tmp_path / "a.png", pnginfo=text)
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOURS)
    text.add_text("more", "x" * (70 << 20), zip=True)
    Image.fromarray(COLOURS).save(tmp_path / "b.png", pnginfo=text)
    with pytest.raises(
        ValueError, match=r"b\.png\" \(it holds more than 64 MiB of text, which is not read: "
    ) as error:
        read_image(tmp_path / "b.png")
    assert "damaged" not in str(error.value)


def test_too_many_pixels_are_no_damage(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"it has more than 178 megapixels.*: make it smaller") as error:
        read_image(tmp_path / "a.png")
    assert "damaged" not in str(error.value)


def test_colours_that_are_not_read_are_named(tmp_path):
    image = Image.fromarray(COLOURS).convert("LAB")
    image.save(tmp_path / "a.tif")
    with contextlib.suppress(ValueError):  # of older releases of Pillow
        expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(pixels(tmp_path / "a.tif"), expected)
        return
    with pytest.raises(ValueError, match="its colours are LAB, which are not read: save it as RGB"):
        read_image(tmp_path / "a.tif")


def test_a_disk_that_fails_is_named_with_the_file(tmp_path, monkeypatch):
    class Failing(io.FileIO):
        def read(self, *size):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("builtins.open", lambda path, mode: Failing(path, mode))
    (tmp_path / "a.png").touch()
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.filename == str(tmp_path / "a.png")
    assert caught.traceback[-1].path.name == "images.py"


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'No image file at ".*gone\.png"'):
        read_image(tmp_path / "gone.png")


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_images_are_one_line(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    whole = buffer.getvalue()
    path = tmp_path / f"cut.{kind.lower()}"
    for length in (0, 5, 20, len(whole) // 4, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"cut\.{kind.lower()}") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_bytes_give_an_image_or_a_value_error(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(COLOURS).save(buffer, kind)
        for _ in range(30):
            damaged = np.frombuffer(buffer.getvalue(), np.uint8).copy()
            damaged[rng.integers(0, len(damaged), 8)] = rng.integers(0, 256, 8)
            (tmp_path / "a").write_bytes(damaged.tobytes())
            try:
                outcome = read_image(tmp_path / "a").mode
            except ValueError as error:
                outcome = str(error)
            assert outcome == "RGB" or outcome.startswith(f'Cannot read the image "{tmp_path / "a"}" (')
            assert "\n" not in outcome


def test_text_is_not_an_image(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(ValueError, match="not an image"):
        read_image(tmp_path / "a.jpg")
