"""A folder of small random images and a config that uses it."""

import numpy as np
import pytest
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.datasets import Datum


@pytest.fixture(scope="session")
def items(tmp_path_factory) -> list[Datum]:
    """24 images of 40 x 48 pixels, in 3 classes and 2 domains."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    data = []
    for i in range(24):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
        data.append(Datum(str(path), label=i % 3, domain=i % 2, classname=f"class {i % 3}"))
    return data


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (32, 32)
    cfg.DATASET.NAME = "Toy"
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 10
    return cfg
