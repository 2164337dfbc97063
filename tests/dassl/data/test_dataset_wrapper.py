import numpy as np
import pytest
import torch
from PIL import Image

from dassl.data import DatasetWrapper
from dassl.data.transforms import build_transform


def test_an_item(cfg, items):
    item = DatasetWrapper(cfg, items, build_transform(cfg, is_train=False))[4]
    assert {key: item[key] for key in ("label", "domain", "impath", "index")} == {
        "label": 1,
        "domain": 0,
        "impath": items[4].impath,
        "index": 4,
    }
    assert item["img"].shape == (3, 32, 32)
    assert "img0" not in item


def test_several_transforms_and_views(cfg, items):
    cfg.DATALOADER.K_TRANSFORMS = 2
    flip = build_transform(cfg, choices=["random_resized_crop"])
    item = DatasetWrapper(cfg, items, [flip, np.asarray, flip], is_train=True)[0]
    assert len(item["img"]) == len(item["img3"]) == 2
    assert not torch.equal(*item["img"])
    assert item["img2"][0].shape == (40, 48, 3)
    test = DatasetWrapper(cfg, items, flip, is_train=False)[0]
    assert test["img"].shape == (3, 32, 32)


def test_img0_is_resized_and_normalised_only(cfg, items):
    cfg.DATALOADER.RETURN_IMG0 = True
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("normalize",)
    img0 = DatasetWrapper(cfg, items, build_transform(cfg, choices=["random_flip"]), is_train=True)[0]["img0"]
    resized = np.asarray(Image.open(items[0].impath).resize((32, 32), Image.Resampling.BICUBIC)) / 255
    expected = (resized - cfg.INPUT.PIXEL_MEAN) / cfg.INPUT.PIXEL_STD
    torch.testing.assert_close(img0, torch.from_numpy(expected.transpose(2, 0, 1)).float())


def test_without_a_transform_the_image_stays(cfg, items):
    assert DatasetWrapper(cfg, items)[0]["img"].size == (48, 40)
    cfg.DATALOADER.K_TRANSFORMS = 2
    with pytest.raises(ValueError, match="Cannot augment the image 2 times"):
        DatasetWrapper(cfg, items, is_train=True)
