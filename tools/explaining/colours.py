"""Colours of maps, the same on the page and in figures."""

import numpy as np

#: A mass of so many times the uniform plan's, or of its reciprocal, has the full colour. The scale is the same for all
#: images and models, so that a map with little in it looks like one.
LARGEST_RATIO = 4.0
WARM, COOL = (235, 90, 0), (30, 90, 220)
OPAQUE = 0.75


def of_mass(relative: np.ndarray) -> np.ndarray:
    """RGBA (..., 4) in [0, 1]: warm above the uniform plan's mass, cool below it, on a logarithmic scale."""
    return _rgba(np.log(np.maximum(relative, 1e-9)) / np.log(LARGEST_RATIO))


def of_cosines(values: np.ndarray, least: float, most: float) -> np.ndarray:
    """RGBA (..., 4) in [0, 1]: from nothing at the least to warm at the largest of all maps of an image."""
    return _rgba((values - least) / ((most - least) or 1))


def _rgba(strength: np.ndarray) -> np.ndarray:
    colour = np.where(strength[..., None] > 0, WARM, COOL) / 255
    alpha = OPAQUE * np.minimum(1, np.abs(strength))
    return np.concatenate([colour, alpha[..., None]], axis=-1)
