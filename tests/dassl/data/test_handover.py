import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dassl.data import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from dassl.utils import set_random_seed

AUGMENTATIONS = ["random_resized_crop", "random_flip", "colorjitter", "normalize"]


class Subclass(DatasetWrapper):
    """Does nothing else, but the loader cannot know that: its batches take the way of torch."""


def batches(cfg, items, workers, wrapper=DatasetWrapper, size=10, tfm=None):
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_data_loader(
        cfg,
        "RandomSampler",
        items,
        batch_size=size,
        tfm=tfm or build_transform(cfg, choices=AUGMENTATIONS),
        dataset_wrapper=wrapper,
    )
    set_random_seed(3)
    return [batch for _ in range(2) for batch in loader]  # all are kept, while the memory is used again


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert set(one) == set(other) == {"label", "domain", "impath", "index", "img"}
        assert one["impath"] == other["impath"]
        for key in ("label", "domain", "index", "img"):
            assert one[key].dtype == other[key].dtype
            assert torch.equal(one[key], other[key])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_finished_items(cfg, items, workers):
    data = items * 6  # more batches of a worker than it has slots
    assert_same(batches(cfg, data, workers), batches(cfg, data, 0, Subclass))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_smaller_last_batch(cfg, items, workers):
    transform = build_transform(cfg, is_train=False, choices=["normalize"])
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_data_loader(cfg, data_source=items, batch_size=10, tfm=transform, is_train=False)
    wrapper = DatasetWrapper(cfg, items, transform)
    expected = [
        default_collate([wrapper[i] for i in part]) for part in (range(10), range(10, 20), range(20, 24))
    ]
    assert_same(list(loader), expected)


def test_images_of_another_size_than_the_configs(cfg, items):
    transform = build_transform(cfg, choices=AUGMENTATIONS)
    cfg.INPUT.SIZE = (16, 16)
    found = batches(cfg, items, 1, tfm=transform)
    assert found[0]["img"].shape == (10, 3, 32, 32)
    assert_same(found, batches(cfg, items, 0, Subclass, tfm=transform))


def test_an_abandoned_epoch_leaves_nothing_behind(cfg, items):
    cfg.DATALOADER.NUM_WORKERS = 2
    transform = build_transform(cfg, choices=AUGMENTATIONS)
    loader = build_data_loader(cfg, "RandomSampler", items * 4, batch_size=10, tfm=transform)
    next(iter(loader))
    set_random_seed(3)
    again = list(loader)
    assert_same(again, batches(cfg, items * 4, 0)[: len(again)])


@pytest.mark.parametrize(
    ("choices", "views", "img0", "left"),
    [
        (["normalize"], 1, False, True),
        ([], 1, False, True),
        (["normalize", "cutout"], 1, False, False),
        (["instance_norm"], 1, False, False),
        (["normalize"], 2, False, False),
        (["normalize"], 1, True, False),
    ],
)
def test_what_is_left_unfinished(cfg, items, choices, views, img0, left):
    cfg.DATALOADER.K_TRANSFORMS, cfg.DATALOADER.RETURN_IMG0 = views, img0
    transform = build_transform(cfg, choices=choices)
    assert DatasetWrapper(cfg, items, transform, is_train=True).leaves_unfinished is left
    assert not Subclass(cfg, items, transform, is_train=True).leaves_unfinished
    assert not DatasetWrapper(cfg, items, [transform, transform], is_train=True).leaves_unfinished
    assert not DatasetWrapper(cfg, items, np.asarray, is_train=True).leaves_unfinished


def test_a_transform_that_is_changed_between_epochs(cfg, items):
    cfg.DATALOADER.NUM_WORKERS = 1
    transform = build_transform(cfg, is_train=False, choices=["normalize"])
    loader = build_data_loader(cfg, data_source=items, batch_size=24, tfm=transform, is_train=False)
    (before,) = loader
    loader.dataset.transform = build_transform(cfg, is_train=False, choices=[])
    (after,) = loader
    assert before["img"].min() < 0
    assert after["img"].min() >= 0
