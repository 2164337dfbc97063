from pathlib import Path

import numpy as np
import pytest
import torch

from dassl.data import DatasetWrapper, build_data_loader
from dassl.data.datasets import Datum
from dassl.data.image_cache import ImageCache
from dassl.data.transforms import build_transform
from dassl.utils import read_image, set_random_seed

IMAGE = 40 * 48 * 3  # bytes of one of the test images


@pytest.fixture
def changing(items, tmp_path: Path) -> list[Datum]:
    """Images that can be removed, to tell whether they are read again."""
    data = []
    for item in items:
        path = tmp_path / Path(item.impath).name
        path.write_bytes(Path(item.impath).read_bytes())
        data.append(Datum(str(path), item.label, item.domain, item.classname))
    return data


def test_what_is_kept_is_what_is_read(items):
    cache = ImageCache(IMAGE * 24)
    cache.fill([item.impath for item in items])
    for item in items:
        image = cache.read(item.impath)
        assert np.array_equal(np.asarray(image), np.asarray(read_image(item.impath)))
        image.paste((0, 0, 0), (0, 0, 40, 40))  # a transform that paints on its input
        assert np.array_equal(np.asarray(cache.read(item.impath)), np.asarray(read_image(item.impath)))


def test_the_limit_holds(items, capsys):
    cache = ImageCache(IMAGE * 5 + 1)
    paths = [item.impath for item in items]
    cache.fill(paths + paths)
    assert list(cache.images) == paths[:5]
    assert capsys.readouterr().out == "* 5 of 24 training images are kept decoded (0 MB)\n"
    cache.read(paths[-1])
    assert len(cache.images) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_and_files_are_read_once(cfg, changing, num_workers, capsys):
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = num_workers

    def loader():
        return build_data_loader(
            cfg, "RandomSampler", changing, batch_size=8, tfm=build_transform(cfg), is_train=True
        )

    def two_epochs(batches):
        set_random_seed(1)
        first = [batch["img"] for batch in batches]
        for item in changing if cfg.DATALOADER.get("CACHE_MB", 0) else []:
            Path(item.impath).unlink()
        return torch.stack(first + [batch["img"] for batch in batches])

    expected = two_epochs(loader())
    cfg.DATALOADER.CACHE_MB = 1
    kept = loader()
    assert "kept decoded" not in capsys.readouterr().out  # not before it is needed
    assert torch.equal(two_epochs(kept), expected)
    assert "* 24 of 24 training images are kept decoded" in capsys.readouterr().out


def test_test_images_are_not_kept(cfg, items):
    cfg.DATALOADER.CACHE_MB = 1
    data = DatasetWrapper(cfg, items, is_train=False)
    data.before_workers()
    assert not data.cache.images


def test_a_damaged_image_is_named(cfg, changing):
    cfg.DATALOADER.CACHE_MB = 1
    Path(changing[3].impath).write_bytes(b"no image")
    data = DatasetWrapper(cfg, changing, is_train=True)
    with pytest.raises(ValueError, match=r"3.png"):
        data.before_workers()
