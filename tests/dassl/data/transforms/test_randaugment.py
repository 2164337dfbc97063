import random

import numpy as np
import pytest
from PIL import Image

from dassl.data.transforms import randaugment as module
from dassl.data.transforms.randaugment import RandAugment, RandAugment2, RandAugmentFixMatch

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
OPERATIONS = sorted(
    {op for ops in (module.RANDAUGMENT, module.RANDAUGMENT2, module.FIXMATCH) for op in ops}, key=str
)


def test_lists_are_those_of_dassl():
    assert [len(ops) for ops in (module.RANDAUGMENT, module.RANDAUGMENT2, module.FIXMATCH)] == [16, 15, 14]


@pytest.mark.parametrize(("operation", "low", "high"), OPERATIONS)
def test_operations_take_their_whole_range(operation, low, high):
    for strength in (low, (low + high) / 2, high):
        result = operation(IMAGE, strength)
        assert (result.size, result.mode) == (IMAGE.size, "RGB")
    assert np.array_equal(np.asarray(IMAGE), PIXELS)


def test_operations_do_what_their_names_say(monkeypatch):
    monkeypatch.setattr(module.random, "random", lambda: 0.0)  # the positive way

    def after(operation, v):
        return np.asarray(operation(IMAGE, v)).astype(int)

    pixels = PIXELS.astype(int)
    assert np.array_equal(after(module.invert, 0), 255 - pixels)
    assert np.array_equal(after(module.solarize, 100), np.where(pixels < 100, pixels, 255 - pixels))
    brighter = np.minimum(pixels + 40, 255)
    assert np.array_equal(
        after(module.solarize_add, 40.7), np.where(brighter < 128, brighter, 255 - brighter)
    )
    assert np.array_equal(after(module.posterize, 4.9), pixels & 0xF0)
    assert np.array_equal(after(module.translate_x_abs, 5)[:, :-5], pixels[:, 5:])
    assert np.array_equal(after(module.translate_x, 0.25)[:, :-8], pixels[:, 8:])
    assert np.array_equal(after(module.translate_y, 0.25)[:-6], pixels[6:])
    assert after(module.translate_y_abs, 6)[-6:].max() == 0
    assert np.array_equal(after(module.brightness, 0.5), pixels // 2)
    assert np.array_equal(after(module.identity, 0), pixels)
    changed = (after(module.cutout_abs, 10) != pixels).any(axis=2)
    assert 0 < changed.sum() <= 11 * 11


def test_strength():
    strengths = []
    augment = RandAugment(n=3, m=15)
    augment.augment_list = [(lambda img, v: strengths.append(v) or img, 10, 20)]
    augment(IMAGE)
    assert strengths == [15, 15, 15]
    with pytest.raises(ValueError, match="m=31"):
        RandAugment(2, 31)


@pytest.mark.parametrize(("kind", "low", "high"), [(RandAugment2, 0.5, 0.7), (RandAugmentFixMatch, 1, 1)])
def test_random_strength_and_probability(kind, low, high):
    strengths = []
    augment = kind(n=1000)
    augment.augment_list = [(lambda img, v: strengths.append(v) or img, -1, 1)]
    random.seed(0)
    augment(IMAGE)
    assert low <= len(strengths) / 1000 <= high
    assert min(strengths) < -0.95
    assert max(strengths) > 0.95
