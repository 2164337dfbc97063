"""Reading an image file."""

import os

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

__all__ = ["read_image"]

# Programs keep whole workflows in a PNG's text. Pillow bounds one text at 1 MiB and all of an image's together at
# 64 MiB; the second bound is enough.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)

_16_BITS = 65535
# Pillow has 16-bit grey images as mode I in its older releases, and always those of a PGM file.
_INTEGERS_OF_16_BITS = ("PNG", "PPM")


class _Refused(Exception):
    """The file is as it should be, but this is no image to train or test on."""


def read_image(path: str | os.PathLike, exif: bool = False, white: float = 0.0) -> Image.Image:
    """Read an image as 8-bit RGB; of an animation or a file of several pages the first picture.

    Grey, palette and CMYK images are converted as Pillow's ``convert("RGB")`` does, which drops transparency. Grey
    images of more than 8 bits are scaled: ``white`` and what is brighter becomes 255.

    Args:
        path: the file.
        exif: turn the image as its orientation tag says. Dassl's read_image, and so published numbers, ignore it.
        white: the value of white in grey images of more than 8 bits; 0: 65535 in 16 bits, 1.0 in floating point.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the disk cannot be read.
        ValueError: the file is truncated, not an image, or has values that cannot be told to be bright or dark.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise FileNotFoundError(f'No image file at "{path}"') from None
    with file:
        try:
            image = Image.open(file)
            return _to_rgb(ImageOps.exif_transpose(image) if exif else image, image.format or "", white)
        except MemoryError:
            raise
        except Exception as error:  # PIL's readers raise errors of many kinds on damaged bytes
            if isinstance(error, OSError) and error.errno is not None:  # the disk, not the file
                raise OSError(error.errno, error.strerror, str(path)) from None
            reason = " ".join(_reason(error).split())
            raise ValueError(f'Cannot read the image "{path}" ({reason})') from None


def _reason(error: Exception) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return f"it has more than {most} megapixels, which are not read: make it smaller"
    if "MAX_TEXT" in str(error) or "Decompressed Data Too Large" in str(error):  # in old releases of Pillow
        most = PngImagePlugin.MAX_TEXT_MEMORY >> 20
        return f"it holds more than {most} MiB of text, which is not read: save it without"
    return f"damaged: {error}"


def _to_rgb(image: Image.Image, kind: str, white: float) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in _INTEGERS_OF_16_BITS):
        return _grey_to_rgb(np.asarray(image), white or _16_BITS)
    if image.mode == "I":
        if not white:
            raise _Refused("it has integers of 32 bits, and how bright white is must be given: INPUT.WHITE")
        return _grey_to_rgb(np.asarray(image), white)
    if image.mode == "F":
        return _grey_to_rgb(_checked_floats(np.asarray(image), white), white or 1.0)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns otherwise; the colours are the same
    try:
        return image.convert("RGB")
    except ValueError:
        raise _Refused(f"its colours are {image.mode}, which are not read: save it as RGB") from None


def _checked_floats(grey: np.ndarray, white: float) -> np.ndarray:
    if not np.isfinite(grey).all():
        raise _Refused("it has values that are not finite")
    low, high = (grey.min(), grey.max()) if grey.size else (0, 0)
    if not white and not 0 <= low <= high <= 1:
        raise _Refused(
            f"it has values from {low:g} to {high:g}, not from 0 (black) to 1 (white): give that of white, INPUT.WHITE"
        )
    return grey


def _grey_to_rgb(grey: np.ndarray, white: float) -> Image.Image:
    """(H, W) grey values as RGB, ``white`` as 255. PIL's own conversion clips them at 255."""
    scaled = np.rint(grey.astype(np.float64) * (255 / white))
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8)).convert("RGB")
