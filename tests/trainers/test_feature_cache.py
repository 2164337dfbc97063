"""Image features on disk: the same results, and a miss whenever something else enters the tower."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainers.harness import evaluate
from trainers.feature_cache import FeatureCache

FROZEN = ["CoOp", "KgCoOp", "ProGrad", "CoCoOp", "ZeroshotCLIP"]


class Tower:
    """Encodes images, and counts how many."""

    def __init__(self):
        self.count = 0

    def __call__(self, images):
        self.count += len(images)
        return images.flatten(1)[:, :5] * 2


@pytest.fixture
def encode():
    return Tower()


def test_images_are_encoded_once(tmp_path, images, encode):
    first = FeatureCache(str(tmp_path), "abc", "fp32").features(images, encode)
    assert encode.count == 6
    again = FeatureCache(str(tmp_path), "abc", "fp32")
    assert torch.equal(again.features(images.flip(0), encode), first.flip(0))
    assert torch.equal(again.features(images[:2], encode), first[:2])
    assert torch.equal(first, images.flatten(1)[:, :5] * 2)
    assert encode.count == 6


def test_only_new_images_are_encoded(tmp_path, images, encode):
    cache = FeatureCache(str(tmp_path), "abc", "fp32")
    cache.features(images[:4], encode)
    changed = images.clone()
    changed[0, 1, 2, 3] += 1e-3
    assert torch.equal(cache.features(changed, encode), changed.flatten(1)[:, :5] * 2)
    assert encode.count == 4 + 3


@pytest.mark.parametrize("other", [("abd", "fp32"), ("abc", "bf16")])
def test_another_backbone_or_precision_knows_nothing(tmp_path, images, encode, other):
    FeatureCache(str(tmp_path), "abc", "fp32").features(images, encode)
    FeatureCache(str(tmp_path), *other).features(images, encode)
    assert encode.count == 12


@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: b"", lambda data: b"x" * len(data)])
def test_a_damaged_file_is_computed_again(tmp_path, images, encode, damage, capsys):
    first = FeatureCache(str(tmp_path), "abc", "fp32").features(images, encode)
    [path] = tmp_path.rglob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    capsys.readouterr()
    cache = FeatureCache(str(tmp_path), "abc", "fp32")
    assert f"{path} is damaged, its features are computed again" in capsys.readouterr().out
    assert torch.equal(cache.features(images, encode), first)
    assert encode.count == 12
    FeatureCache(str(tmp_path), "abc", "fp32").features(images, encode)
    assert encode.count == 12


def test_two_processes_fill_one_folder(tmp_path, images, encode):
    caches = [FeatureCache(str(tmp_path), "abc", "fp32") for _ in range(2)]
    for cache, part in zip(caches, (images[:4], images[2:])):
        cache.features(part, encode)
    count = encode.count
    FeatureCache(str(tmp_path), "abc", "fp32").features(images, encode)
    assert encode.count == count
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot make the folder .*file"):
        FeatureCache(str(tmp_path / "file"), "abc", "fp32")


@pytest.mark.parametrize("method", FROZEN)
def test_evaluation_gives_the_same_without_encoding_images_again(method, make, images, tmp_path, monkeypatch):
    trainer = make(method, "TEST.FEATURE_CACHE", str(tmp_path / "cache"))
    first = evaluate(trainer, images)
    cache, trainer.model.feature_cache = trainer.model.feature_cache, None
    assert torch.equal(evaluate(trainer, images), first)
    trainer.model.feature_cache = FeatureCache(str(tmp_path / "cache"), *cache.folder.name.split("-"))

    def fail(*args, **kwargs):
        raise AssertionError("the image was encoded again")

    monkeypatch.setattr(trainer.model.clip.image, "forward", fail)
    assert torch.equal(evaluate(trainer, images), first)
    with pytest.raises(AssertionError):
        evaluate(trainer, images + 1e-3)
    trainer.set_model_mode("train")
    with pytest.raises(AssertionError):
        trainer.model.encode_images(images)


def test_training_uses_it_where_its_transforms_are_fixed(make, tmp_path, monkeypatch):
    option = ["TEST.FEATURE_CACHE", str(tmp_path / "cache"), "TRAIN.FEATURE_CACHE", True]
    trainer = make("CoOp", *option, "INPUT.TRANSFORMS", ("normalize",))
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 9
    batches = list(trainer.train_loader_x)
    for batch in batches:
        trainer.model.encode_images(batch["img"])
    monkeypatch.setattr(trainer.model.clip.image, "forward", None)
    assert torch.isfinite(trainer.forward_backward(batches[0])["loss"])

    with pytest.raises(ValueError, match="but random_flip of INPUT"):
        make("CoOp", *option, "INPUT.TRANSFORMS", ("normalize", "random_flip"))
    with pytest.raises(ValueError, match=r"TEST\.FEATURE_CACHE names no folder"):
        make("CoOp", "TRAIN.FEATURE_CACHE", True, "INPUT.TRANSFORMS", ("normalize",))


@pytest.mark.parametrize("method", ["MMTPA", "MaPLe", "PLOT"])
def test_it_is_not_used_where_images_are_prompted_or_their_tokens_needed(method, make, images, tmp_path):
    trainer = make(method, "TEST.FEATURE_CACHE", str(tmp_path / "cache"))
    evaluate(trainer, images)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_visual_prompts_are_computed_once_per_evaluation(make, images, monkeypatch):
    trainer = make("MaPLe")
    calls = []
    compute = trainer.model.image_changes
    monkeypatch.setattr(trainer.model, "image_changes", lambda: calls.append(1) or compute())
    first = evaluate(trainer, images)
    assert torch.equal(trainer.model_inference(images), first)
    assert len(calls) == 1
    with torch.no_grad():
        trainer.model.context.ctx.add_(0.1)
    assert not torch.equal(evaluate(trainer, images), first)
    assert len(calls) == 2


def test_features_that_are_not_finite_are_neither_kept_nor_read(tmp_path, images):
    cache = FeatureCache(str(tmp_path), "hash", "fp32")
    with pytest.raises(FloatingPointError, match="features of images are not finite"):
        cache.features(images, lambda images: torch.full((len(images), 4), float("nan")))
    assert not list(tmp_path.rglob("*.safetensors"))

    cache = FeatureCache(str(tmp_path), "hash", "fp32")
    cache.features(images, lambda images: torch.ones(len(images), 4))
    [path] = tmp_path.rglob("*.safetensors")
    kept = load_file(path)
    save_file({**kept, "features": kept["features"] * float("nan")}, path)
    again = FeatureCache(str(tmp_path), "hash", "fp32")
    assert torch.equal(
        again.features(images, lambda images: torch.zeros(len(images), 4)), torch.zeros(len(images), 4)
    )
