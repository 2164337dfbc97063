import pytest
import torch

from dassl.data import DataManager, DatasetWrapper
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase


@pytest.fixture
def toy(items):
    """A registered data set, written as a plugin writes one."""

    @DATASET_REGISTRY.register(force=True)
    class Toy(DatasetBase):
        def __init__(self, cfg):
            super().__init__(train_x=items, val=items[:4], test=items[:15])

    yield Toy
    DATASET_REGISTRY._obj_map.pop("Toy")


def test_loaders(cfg, toy):
    data = DataManager(cfg)
    assert data.num_classes == 3
    assert data.lab2cname[2] == "class 2"
    assert data.num_source_domains == 0
    assert data.train_loader_u is None
    assert isinstance(data.dataset, toy)
    assert [len(batch["label"]) for batch in data.train_loader_x] == [10, 10]
    assert [len(batch["label"]) for batch in data.test_loader] == [15]
    first = next(iter(data.val_loader))
    assert first["index"].tolist() == [0, 1, 2, 3]
    assert first["img"].shape == (4, 3, 32, 32)


def test_a_training_set_smaller_than_a_batch_is_used(cfg, toy, items):
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 50
    assert [len(batch["label"]) for batch in DataManager(cfg).train_loader_x] == [24]


def test_unlabelled_loader(cfg, toy, items, monkeypatch):
    monkeypatch.setattr(toy, "train_u", items[:20])
    cfg.DATALOADER.TRAIN_U.BATCH_SIZE = 4
    assert DataManager(cfg).train_loader_u.batch_size == 10
    cfg.DATALOADER.TRAIN_U.SAME_AS_X = False
    assert DataManager(cfg).train_loader_u.batch_size == 4


def test_custom_transforms_and_wrapper(cfg, toy, capsys):
    class Wrapper(DatasetWrapper):
        def __getitem__(self, idx):
            return {**super().__getitem__(idx), "double": 2 * idx}

    def zeros(image):
        return torch.zeros(3, 4, 4)

    data = DataManager(cfg, custom_tfm_train=[zeros, zeros], custom_tfm_test=zeros, dataset_wrapper=Wrapper)
    batch = next(iter(data.train_loader_x))
    assert batch["img2"].shape == (10, 3, 4, 4)
    assert torch.equal(batch["double"], 2 * batch["index"])
    out = capsys.readouterr().out
    assert "* Using custom transform for training\n* Using custom transform for testing\n" in out


def test_summary(cfg, toy, items, monkeypatch, capsys):
    monkeypatch.setattr(toy, "train_u", items * 100)
    cfg.DATASET.SOURCE_DOMAINS = ["photo", "sketch"]
    DataManager(cfg)
    assert capsys.readouterr().out.endswith(
        "---------  -------------------\n"
        "Dataset    Toy\n"
        "Source     ['photo', 'sketch']\n"
        "# classes  3\n"
        "# train_x  24\n"
        "# train_u  2,400\n"
        "# val      4\n"
        "# test     15\n"
        "---------  -------------------\n"
    )
    cfg.VERBOSE = False
    DataManager(cfg)
    assert "# classes" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATALOADER.NUM_WORKERS", -1),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 0),
        ("DATALOADER.TEST.BATCH_SIZE", -3),
    ],
)
def test_numbers_that_no_loader_can_have_are_named(cfg, toy, key, value):
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=f"{key} is {value}, .* is needed") as caught:
        DataManager(cfg)
    assert str(caught.traceback[-1].path).endswith("data_manager.py")  # not in torch: it is no bug
