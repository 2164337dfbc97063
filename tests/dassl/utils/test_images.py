import io
import warnings

import numpy as np
import pytest
from PIL import Image

from dassl.utils import read_image

GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([GRADIENT, GRADIENT.T, 255 - GRADIENT], axis=-1)


def pixels(path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_read_as_it_is(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOURS)


def test_grey_is_repeated(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), np.repeat(GRADIENT[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled(tmp_path, suffix):
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a.{suffix}")[..., 0], GRADIENT)


def test_float_grey_is_scaled(tmp_path):
    Image.fromarray(GRADIENT.astype(np.float32) / 255).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif")[..., 1], GRADIENT)


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
