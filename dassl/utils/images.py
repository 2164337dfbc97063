"""Reading an image file."""

import os

import numpy as np
from PIL import Image

__all__ = ["read_image"]


def read_image(path: str | os.PathLike) -> Image.Image:
    """Read an image as 8-bit RGB.

    Grey, palette and CMYK images are converted, transparency is dropped, 16-bit grey values are scaled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, or not an image.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise FileNotFoundError(f'No image file at "{path}"') from None
    with file:
        try:
            return _to_rgb(Image.open(file))
        except MemoryError:
            raise
        except Exception as error:  # PIL's readers raise errors of many kinds on damaged bytes
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the file
            reason = (
                "not an image" if isinstance(error, Image.UnidentifiedImageError) else f"damaged: {error}"
            )
            raise ValueError(f'Cannot read the image "{path}" ({" ".join(reason.split())})') from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(np.asarray(image).astype(np.float64))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _grey_to_rgb(grey: np.ndarray) -> Image.Image:
    """(H, W) grey values of 8 or 16 bits, or within [0, 1], as RGB. PIL's own conversion clips them."""
    top = grey.max(initial=0)
    if top > 255:
        grey = grey / 257
    elif top <= 1 and (grey % 1).any():
        grey = grey * 255
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB")
