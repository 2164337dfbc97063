"""Every method on a backbone other than the bundled ViT, and with settings that a backbone cannot serve."""

import math

import pytest
import torch
from safetensors.torch import save_file

from dassl.engine import TRAINER_REGISTRY
from tests.clip import tiny
from tests.trainers.harness import LEARNERS, MINI_DEPTH, evaluate, learned, make_cfg


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "resnet.safetensors"
    save_file(tiny.resnet_state_dict(), path)
    return f"quickgelu:{path}"


@pytest.fixture
def keys(data_root, tmp_path):
    """Full names of the method's keys that contain a word: keys("CoOp", "PREC")."""

    def keys(method, word):
        section = TRAINER_REGISTRY.get(method).section
        declared = make_cfg(method, data_root, tmp_path).TRAINER[section]
        return [f"TRAINER.{section}.{key}" for key in declared if word in key]

    return keys


def assert_one_line(error, *words):
    assert "\n" not in str(error)
    assert all(str(word) in str(error) for word in words), str(error)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("method", LEARNERS)
def test_a_resnet_serves_a_method_or_is_refused_by_name(method, precision, resnet, make, keys, images):
    options = ["MODEL.BACKBONE.NAME", resnet, keys(method, "PREC")[0], precision]
    for key in keys(method, "DEPTH"):
        options += [key, 2]  # blocks of the text tower
    try:
        trainer = make(method, *options)
    except ValueError as error:
        assert_one_line(error, "a plain ViT", resnet, "ModifiedResNet")
        return
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
    summary = trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert all(math.isfinite(value) for value in summary.values())
    assert torch.isfinite(evaluate(trainer, images)).all()
    assert all(torch.isfinite(value).all() for value in learned(trainer).values())


@pytest.mark.parametrize("method", LEARNERS)
def test_a_depth_larger_than_the_tower_is_named(method, make, keys):
    for key in keys(method, "DEPTH"):
        if key.endswith("CLASS_DEPTH") and method != "TCP":  # which shares CoOp's section
            continue
        with pytest.raises(ValueError) as error:
            make(method, key, MINI_DEPTH + 1)
        assert_one_line(error.value, MINI_DEPTH + 1, MINI_DEPTH)


@pytest.mark.parametrize("method", LEARNERS)
def test_an_unknown_precision_is_named(method, make, keys):
    with pytest.raises(ValueError, match=r"PREC is 'fp8', choose from: fp32, fp16, amp, bf16"):
        make(method, keys(method, "PREC")[0], "fp8")
