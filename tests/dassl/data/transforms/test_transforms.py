import random
import zipfile

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.data.transforms.randaugment import RandAugment, RandAugment2, RandAugmentFixMatch
from dassl.data.transforms.transforms import (
    AVAI_CHOICES,
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    Random2DTranslation,
)
from dassl.utils import set_random_seed

NAMES = [
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop", "random_translation",
    "center_crop", "cutout", "imagenet_policy", "cifar10_policy", "svhn_policy", "autoaugment",
    "randaugment", "randaugment_fixmatch", "randaugment2", "gaussian_noise", "colorjitter",
    "randomgrayscale", "gaussian_blur",
]  # fmt: skip


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """A smooth picture of 60 x 44 pixels with an edge."""
    y, x = np.mgrid[:44, :60]
    channels = [4 * x, 5 * y, 127 * (x > y) + 60]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def test_names_are_those_of_dassl():
    assert sorted(AVAI_CHOICES) == sorted(NAMES)
    assert list(INTERPOLATION_MODES) == ["bilinear", "bicubic", "nearest"]


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_and_is_a_function_of_the_seed(cfg, image, name):
    transform = build_transform(cfg, choices=[name, "random_crop"])
    size = (48, 48) if name == "random_resized_crop" else (32, 32)
    plain = build_transform(cfg, choices=["random_crop"])
    cfg.INPUT.SIZE = size

    def draw(transform, seed):
        set_random_seed(seed)
        return torch.stack([transform(image) for _ in range(8)])

    first = draw(transform, 1)
    assert first.shape == (8, 3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first, draw(transform, 1))
    assert not torch.equal(first, draw(transform, 2))
    if name not in ("random_crop", "center_crop"):
        assert not torch.equal(first, draw(plain, 1))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("normalize", "instance_norm")])
def test_test_images_are_not_augmented(cfg, image, name):
    cfg.INPUT.INTERPOLATION = "bicubic"
    transform = build_transform(cfg, is_train=False, choices=[name])
    assert torch.equal(transform(image), build_transform(cfg, is_train=False, choices=[])(image))


def test_test_pipeline(cfg, image):
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("normalize",)
    small = image.resize((43, 32), Image.Resampling.BICUBIC)
    left = round((43 - 32) / 2)
    pixels = np.asarray(small.crop((left, 0, left + 32, 32))).transpose(2, 0, 1) / 255
    mean, std = np.array(cfg.INPUT.PIXEL_MEAN)[:, None, None], np.array(cfg.INPUT.PIXEL_STD)[:, None, None]
    expected = torch.from_numpy((pixels - mean) / std).float()
    torch.testing.assert_close(build_transform(cfg, is_train=False)(image), expected)


def photographs() -> list[Image.Image]:
    """Two photographs that scikit-learn brings, 640 x 427 pixels: a temple and a flower."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


POLICIES = {
    "imagenet_policy": "imagenet",
    "autoaugment": "imagenet",
    "cifar10_policy": "cifar10",
    "svhn_policy": "svhn",
}


def first_pipeline(cfg, name, is_train=True):
    """The pipeline of torchvision's first transforms that published numbers were made with, for one name."""
    c, mode = cfg.INPUT, v1.InterpolationMode(cfg.INPUT.INTERPOLATION)
    resize = v1.Resize(c.SIZE, interpolation=mode)
    on_image = {
        "random_crop": [v1.RandomCrop(c.SIZE, padding=c.CROP_PADDING)],
        "random_resized_crop": [v1.RandomResizedCrop(c.SIZE, scale=c.RRCROP_SCALE, interpolation=mode)],
        "random_flip": [resize, v1.RandomHorizontalFlip()],
        "colorjitter": [resize, v1.ColorJitter(0.4, 0.4, 0.4, 0.1)],
        "randomgrayscale": [resize, v1.RandomGrayscale(p=c.RGS_P)],
        "gaussian_blur": [resize, v1.RandomApply([v1.GaussianBlur(c.GB_K)], p=c.GB_P)],
        "random_translation": [resize, Random2DTranslation(*c.SIZE)],
        "randaugment": [resize, RandAugment(c.RANDAUGMENT_N, c.RANDAUGMENT_M)],
        "randaugment_fixmatch": [resize, RandAugmentFixMatch(c.RANDAUGMENT_N)],
        "randaugment2": [resize, RandAugment2(c.RANDAUGMENT_N)],
    }
    for policy, kind in POLICIES.items():
        on_image[policy] = [resize, v1.AutoAugment(v1.AutoAugmentPolicy(kind), fill=[128, 128, 128])]
    on_tensor = {
        "normalize": [v1.Normalize(c.PIXEL_MEAN, c.PIXEL_STD)],
        "cutout": [Cutout(c.CUTOUT_N, c.CUTOUT_LEN)],
        "gaussian_noise": [GaussianNoise(c.GN_MEAN, c.GN_STD)],
        "instance_norm": [InstanceNormalization()],
    }
    if is_train:
        steps = on_image.get(name, [resize])
    else:
        steps = [v1.Resize(max(c.SIZE), interpolation=mode), v1.CenterCrop(c.SIZE)]
    last = on_tensor.get(name, []) if is_train or name in ("normalize", "instance_norm") else []
    return v1.Compose([*steps, v1.ToTensor(), *last])


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("name", NAMES)
def test_every_bit_is_that_of_the_first_transforms(cfg, name, interpolation, is_train):
    cfg.INPUT.INTERPOLATION = interpolation
    cfg.INPUT.SIZE = (56, 56)
    ours = build_transform(cfg, is_train, choices=[name])
    first = first_pipeline(cfg, name, is_train)
    assert isinstance(ours, v2.Compose)
    assert isinstance(ours, v1.Compose)  # plugins ask for it
    for image in photographs():
        for seed in range(4):
            results = []
            for transform in (ours, first):
                set_random_seed(seed)
                results.append((transform(image), torch.rand(1), random.random(), np.random.rand()))  # noqa: NPY002
            (pixels, *numbers), (first_pixels, *first_numbers) = results
            assert torch.equal(pixels, first_pixels)
            assert numbers == first_numbers


def test_all_bits_of_many_transforms_on_eurosat(cfg, shared):
    """CoOp's training transforms and more, on real images of 64 x 64 pixels."""
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.SIZE = (224, 224)
    names = ["random_resized_crop", "random_flip", "colorjitter", "randomgrayscale", "normalize"]
    first = v1.Compose([
        v1.RandomResizedCrop((224, 224), scale=(0.08, 1.0), interpolation=v1.InterpolationMode.BICUBIC),
        v1.RandomHorizontalFlip(),
        v1.ColorJitter(0.4, 0.4, 0.4, 0.1),
        v1.RandomGrayscale(0.2),
        v1.ToTensor(),
        v1.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD),
    ])  # fmt: skip
    ours = build_transform(cfg, choices=names)
    with zipfile.ZipFile(shared / "data" / "EuroSAT.zip") as archive:
        paths = [name for name in archive.namelist() if name.endswith(".jpg")][::1500]
        for seed, path in enumerate(paths):
            with archive.open(path) as file:
                image = Image.open(file).convert("RGB")
            set_random_seed(seed)
            expected = first(image)
            set_random_seed(seed)
            assert torch.equal(ours(image), expected)
            set_random_seed(seed)
            batch = ours.pixels(image)[None]
            assert batch.dtype == torch.uint8
            assert torch.equal(ours.finish(batch.float())[0], expected)


def test_order_and_what_is_printed(cfg, capsys):
    build_transform(cfg, choices=NAMES)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "Building transform_train",
        "+ random translation",
        "+ random crop (padding = 4)",
        "+ random resized crop (size=(32, 32), scale=(0.08, 1.0))",
        "+ random flip",
        "+ imagenet policy",
        "+ imagenet policy",
        "+ cifar10 policy",
        "+ svhn policy",
        "+ randaugment (n=2, m=10)",
        "+ randaugment_fixmatch (n=2)",
        "+ randaugment2 (n=2)",
        "+ color jitter (brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)",
        "+ random gray scale",
        "+ gaussian blur (kernel=21)",
        "+ to torch tensor of range [0, 1]",
        "+ cutout (n_holes=1, length=16)",
        "+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
        "+ gaussian noise (mean=0.0, std=0.15)",
        "+ instance normalization",
    ]
    build_transform(cfg, is_train=True, choices=["random_flip"])
    assert "+ resize to 32x32\n+ random flip" in capsys.readouterr().out
    build_transform(cfg, is_train=False, choices=NAMES)
    assert capsys.readouterr().out.splitlines()[:3] == [
        "Building transform_test",
        "+ resize the smaller edge to 32",
        "+ 32x32 center crop",
    ]


def test_names_that_do_not_exist(cfg):
    with pytest.raises(ValueError, match=r"Unknown transform random_flop .*random_flip"):
        build_transform(cfg, choices=["random_flop"])
    cfg.INPUT.INTERPOLATION = "lanczos"
    with pytest.raises(ValueError, match=r"lanczos \(use \['bilinear', 'bicubic', 'nearest'\]\)"):
        build_transform(cfg)


def test_no_transform(cfg):
    cfg.INPUT.NO_TRANSFORM = True
    assert build_transform(cfg) is None


def test_instance_norm(cfg, image):
    channels = build_transform(cfg, is_train=False, choices=["instance_norm"])(image)
    torch.testing.assert_close(channels.mean(dim=(1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(channels.std(dim=(1, 2)), torch.ones(3))


def test_cutout_leaves_its_input_and_cuts_squares():
    ones = torch.ones(3, 20, 20)
    np.random.seed(0)  # noqa: NPY002
    counts = {int((Cutout(1, 8)(ones) == 0).sum()) // 3 for _ in range(60)}
    assert torch.equal(ones, torch.ones(3, 20, 20))
    assert max(counts) == 64
    assert min(counts) >= 16


def test_gaussian_noise_is_added_at_times():
    set_random_seed(0)
    zeros = torch.zeros(3, 30, 30)
    noisy = [out for out in (GaussianNoise(1.0, 0.1)(zeros) for _ in range(40)) if out.any()]
    assert 10 < len(noisy) < 30
    together = torch.stack(noisy)
    assert together.mean().item() == pytest.approx(1.0, abs=0.01)
    assert together.std().item() == pytest.approx(0.1, abs=0.01)


def test_test_images_are_squashed_where_that_is_asked_for(cfg):
    image = Image.new("RGB", (64, 32))
    image.paste((255, 255, 255), (0, 0, 8, 32))  # a stripe that a crop of the centre takes away
    cfg.INPUT.SIZE = (16, 16)
    cropped = build_transform(cfg, is_train=False)(image)
    cfg.INPUT.RESIZE_MODE = "squash"
    squashed = build_transform(cfg, is_train=False)(image)
    assert cropped.shape == squashed.shape == (3, 16, 16)
    assert cropped.max() == 0
    assert squashed[:, :, 0].min() > 0.9
