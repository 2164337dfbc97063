import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image
from torchvision.transforms import v2

from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.data.transforms.transforms import AVAI_CHOICES, Cutout, GaussianNoise
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


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_pixels_are_those_of_both_torchvision_pipelines(cfg, image, interpolation):
    """The pipeline that published numbers were made with, and torchvision's current one on PIL images."""
    cfg.INPUT.INTERPOLATION = interpolation
    cfg.INPUT.TRANSFORMS = (
        "random_resized_crop",
        "random_flip",
        "colorjitter",
        "randomgrayscale",
        "normalize",
    )
    cfg.INPUT.SIZE = (24, 24)
    mode = v1.InterpolationMode(interpolation)

    def pipeline(T, to_tensor):
        return T.Compose([
            T.RandomResizedCrop((24, 24), scale=(0.08, 1.0), interpolation=mode),
            T.RandomHorizontalFlip(),
            T.ColorJitter(0.4, 0.4, 0.4, 0.1),
            T.RandomGrayscale(0.2),
            *to_tensor,
            T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD),
        ])  # fmt: skip

    ours = build_transform(cfg)
    first = pipeline(v1, [v1.ToTensor()])
    second = pipeline(v2, [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    for seed in range(6):
        results = []
        for transform in (ours, first, second):
            set_random_seed(seed)
            results.append(transform(image))
        assert torch.equal(results[0], results[1])
        # A unit of the last of 24 bits, divided by the standard deviation: v2 multiplies by 1/255.
        torch.testing.assert_close(results[0], results[2].as_subclass(torch.Tensor), rtol=0, atol=1e-6)


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
