import numpy as np
import pytest
import torch
from PIL import Image

from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
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


@pytest.mark.parametrize("megabytes", [0, 1])
def test_images_are_read_as_the_config_says(cfg, tmp_path, megabytes):
    turned, dark = tmp_path / "turned.png", tmp_path / "dark.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 40)).save(turned, exif=exif)
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(dark)
    data = [Datum(str(turned)), Datum(str(dark))]
    assert DatasetWrapper(cfg, data)[0]["img"].size == (48, 40)  # a config of the original Dassl's keys
    cfg.INPUT.EXIF, cfg.INPUT.WHITE, cfg.DATALOADER.CACHE_MB = True, 4095.0, megabytes
    for is_train in (True, False):
        wrapper = DatasetWrapper(cfg, data, is_train=is_train)
        wrapper.before_workers()
        assert wrapper[0]["img"].size == (40, 48)
        assert wrapper[1]["img"].getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("key", "value"),
    [("INPUT.WHITE", -1.0), ("INPUT.WHITE", float("nan")), ("DATALOADER.CACHE_MB", -1), ("DATALOADER.K_TRANSFORMS", 0)],
)
def test_values_out_of_range_are_named(cfg, items, key, value):
    section, name = key.split(".")
    cfg[section][name] = value
    with pytest.raises(ValueError, match=f"{key} is {value}, .* is needed"):
        DatasetWrapper(cfg, items, lambda image: image, is_train=True)
