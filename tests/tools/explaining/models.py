"""Models to be explained, and pictures of two shapes side by side."""

import contextlib
import io

import numpy as np
from PIL import Image

from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import set_random_seed
from datasets.shapes import THINGS
from datasets.toy import painting
from tests.trainers.harness import make_cfg
from trainers.class_names import Classes
from trainers.without_data import without_data

NAMES = [thing.name for thing in THINGS]


def ready(method, folder, *opts, names=tuple(NAMES)):
    """A model in evaluation mode, as it is before training, and the transform of test images."""
    cfg = make_cfg(method, folder, folder / "run", *opts)
    set_random_seed(cfg.SEED)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = without_data(TRAINER_REGISTRY.get(method), cfg, Classes(list(names), "a photo of a {}."))
        trainer.set_model_mode("eval")
        return trainer.model, build_transform(cfg, is_train=False)


def side_by_side(left, right, rng):
    """64 x 64 pixels of two things in the middle of the left and of the right half; None leaves one out."""
    picture = np.full((64, 64, 3), rng.uniform(120, 200))
    for thing, x in ((left, 16.0), (right, 48.0)):
        if thing is not None:
            place = np.array([x, 32.0]) + rng.normal(0, 2, 2)
            painting._draw_thing(picture, thing, place, 13.0, False, rng)
    return Image.fromarray(painting._develop(picture, "photo", rng))
