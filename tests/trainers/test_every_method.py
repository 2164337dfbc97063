"""What holds for every method, whatever it is: a loop over the registry."""

import math
from pathlib import Path

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import set_random_seed
from foundation.disclosures import DISCLOSURES
from tests.trainers.harness import (
    LEARNERS,
    METHODS,
    assert_close,
    build,
    evaluate,
    fit,
    interrupt,
    learned,
    load,
    make_cfg,
    n_learnable,
)
from trainers.dept import DePTModel
from trainers.heads import HeadTrainer

each_learner = pytest.mark.parametrize("method", LEARNERS)
each_trained = pytest.mark.parametrize("trained", LEARNERS, indirect=True)


def weights(towers):
    """Copies of every weight and buffer."""
    return {name: value.clone() for name, value in towers.state_dict().items()}


def state(trainer):
    """Everything that decides how training goes on, in a form that can be compared."""
    optimizer = trainer.optim.state_dict()
    momentum = {key: value["momentum_buffer"] for key, value in optimizer["state"].items()}
    return {"learned": learned(trainer), "momentum": momentum, "schedule": trainer.sched.state_dict()}


def assert_identical(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        if isinstance(ours[name], dict):
            assert_identical(ours[name], theirs[name])
        elif isinstance(ours[name], torch.Tensor):
            assert torch.equal(ours[name], theirs[name]), name
        else:
            assert ours[name] == theirs[name], name


def test_there_are_methods():
    assert {"CoOp", "MMTPA", "ZeroshotCLIP"} <= set(METHODS)


@pytest.mark.parametrize("method", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_a_method_that_learns_nothing_evaluates(method, make, images, capsys):
    trainer = make(method)
    assert n_learnable(trainer) == 0
    assert evaluate(trainer, images).shape == (6, 10)
    trainer.train()
    assert len(trainer.evaluator._y_pred) == len(trainer.dm.dataset.test)
    assert "learns nothing" in capsys.readouterr().out


@each_learner
def test_a_step_lowers_the_loss_and_changes_nothing_but_the_prompts(method, make):
    trainer = make(method)
    trainer.set_model_mode("train")
    with torch.no_grad():  # one factor of a product that starts at zero has no gradient
        for parameter in trainer.model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    before, frozen = learned(trainer), weights(trainer.model.clip)
    batch = next(iter(trainer.train_loader_x))
    images, labels = trainer.parse_batch_train(batch)
    evaluate(trainer, images)
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
    groups = trainer.optim.param_groups

    for group in groups:
        group["lr"] = 0.0  # a step that only finds the gradient
    first = trainer.forward_backward(batch)["loss"]
    assert_identical(learned(trainer), before)
    grads = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert grads  # of all parameters, or of those that a method's first stage trains
    assert all(grad.abs().sum() > 0 for grad in grads.values())
    assert not any(p.requires_grad or p.grad is not None for p in trainer.model.clip.parameters())

    # As far along the gradient as lowers the loss by one percent, if the gradient is right.
    with torch.no_grad():
        loss = trainer.model.loss(images, labels)[0].item()
    slope = sum(grad.square().sum().item() for grad in grads.values())
    for group in groups:
        group["lr"], group["momentum"], group["weight_decay"] = 0.01 * loss / slope, 0.0, 0.0
    trainer.forward_backward(batch)
    with torch.no_grad():
        after = trainer.model.loss(images, labels)[0].item()
    assert after < loss - 0.001 * loss
    assert math.isfinite(first)

    changed = {name for name, value in learned(trainer).items() if not torch.equal(value, before[name])}
    assert changed == grads.keys()
    assert_identical(weights(trainer.model.clip), frozen)
    assert trainer.model.clip.hash == trainer.backbone_hash
    with torch.no_grad():  # what an evaluation keeps of the class texts does not outlive the step
        assert torch.equal(
            evaluate(trainer, images), trainer.model.logits(images, trainer.model.encode_texts())
        )


@each_trained
def test_training_moves_the_prompts_and_not_the_towers(trained, make):
    before = learned(make(type(trained).__name__, "DATASET.SUBSAMPLE_CLASSES", "base"))
    assert all(not torch.equal(value, before[name]) for name, value in learned(trained).items())
    assert all(torch.isfinite(value).all() for value in learned(trained).values())


@each_trained
def test_a_checkpoint_holds_what_is_learned_and_gives_the_same_logits(trained, make, images):
    path = Path(trained.cfg.OUTPUT_DIR)
    file = path / trained.model_name / "model.pth.tar-2"
    saved = torch.load(file, weights_only=True)
    state = trained.model.state_dict()
    kept = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    assert set(saved["state_dict"]) == {*kept, "_extra_state"}
    # parameters, a head's buffers, momentum, and what a file's structure takes
    size = sum(4 * value.numel() for value in kept.values())
    assert file.stat().st_size < size + 4 * n_learnable(trained) + 2000 * (len(kept) + 10)
    assert size == 4 * n_learnable(trained) or isinstance(trained, HeadTrainer)

    other = make(type(trained).__name__, "DATASET.SUBSAMPLE_CLASSES", "base", "SEED", 2)
    expected = evaluate(trained, images)
    assert not torch.equal(evaluate(other, images), expected)
    load(other, path, epoch=2)
    assert torch.equal(evaluate(other, images), expected)
    load(other, path)  # the newest, if none is asked for
    assert torch.equal(evaluate(other, images), expected)


@each_trained
def test_the_checkpoint_is_accepted_as_initial_weights(trained, make, images):
    file = f"{trained.cfg.OUTPUT_DIR}/{trained.model_name}/model.pth.tar-2"
    other = make(type(trained).__name__, "MODEL.INIT_WEIGHTS", file, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert torch.equal(evaluate(other, images), evaluate(trained, images))


@each_trained
def test_evaluation_gives_the_logits_of_training_mode(trained, images):
    expected = evaluate(trained, images)
    trained.set_model_mode("train")
    logits = trained.model.logits(images, trained.model.encode_texts()).detach()
    assert_close(logits, expected, 1e-5)


@each_trained
def test_prompts_of_base_classes_serve_other_classes(trained, make, images):
    """The class texts are built anew: the classes that both runs have get the same logits.

    Unless the method learns something for each class: then a checkpoint is for its own classes.
    """
    base = evaluate(trained, images)
    if isinstance(trained.model, DePTModel):  # other classes have no probe
        with torch.no_grad():
            base = trained.model.similarity(trained.model.encode_images(images), trained.model.encode_texts())
    everything = make(type(trained).__name__)
    if "classes" in trained.model.about:
        new = make(type(trained).__name__, "DATASET.SUBSAMPLE_CLASSES", "new")
        for other in (everything, new):
            with pytest.raises(ValueError, match="classes"):
                load(other, trained.cfg.OUTPUT_DIR)
        return
    logits = evaluate(load(everything, trained.cfg.OUTPUT_DIR, epoch=2), images)
    assert (base.shape, logits.shape) == ((6, 5), (6, 10))
    assert_close(logits[:, :5], base, 1e-3)
    assert (logits[:, 5:] - base).abs().max() > 0.01 * base.abs().max()

    new = make(type(trained).__name__, "DATASET.SUBSAMPLE_CLASSES", "new")
    assert_close(evaluate(load(new, trained.cfg.OUTPUT_DIR), images), logits[:, 5:], 1e-3)


@each_learner
def test_a_resumed_run_is_bit_identical(method, data_root, tmp_path):
    options = ["DATASET.NUM_SHOTS", 1, "OPTIM.WARMUP_EPOCH", 1, "OPTIM.LR_SCHEDULER", "cosine"]

    def cfg(folder):
        return make_cfg(method, data_root, tmp_path / folder, *options)

    straight = fit(build(cfg("straight")))

    stopped = build(cfg("resumed"))

    interrupt(stopped, 1)
    assert (tmp_path / "resumed" / "resume.pth.tar").is_file()

    set_random_seed(5)  # a process of its own
    resumed = fit(build(cfg("resumed")))
    assert resumed.start_epoch == 1
    assert_identical(state(resumed), state(straight))


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16"])
@each_trained
def test_every_precision_steps_and_is_close_to_fp32(trained, precision, make, images):
    name = f"TRAINER.{trained.section}.PREC"
    other = make(type(trained).__name__, name, precision, "DATASET.SUBSAMPLE_CLASSES", "base")
    load(other, trained.cfg.OUTPUT_DIR, epoch=2)
    logits, expected = evaluate(other, images), evaluate(trained, images)
    assert logits.dtype == torch.float32
    assert_close(logits, expected, 0.1 if precision == "bf16" else 0.02)

    before, batch = learned(other), next(iter(other.train_loader_x))
    other.set_model_mode("train")
    other.epoch, other.batch_idx, other.num_batches = 0, 0, 2
    for _ in range(10):
        scale = other.scaler and other.scaler.get_scale()
        summary = other.forward_backward(batch)
        assert all(math.isfinite(value) for value in summary.values())
        if precision != "amp" or other.scaler.get_scale() >= scale:
            break  # else the loss scaling has skipped the step: it finds its scale by that
    after = learned(other)
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in after.values())
    grads = {name: p.grad for name, p in other.model.named_parameters() if p.grad is not None}
    assert grads
    assert all(not torch.equal(after[name], before[name]) for name in grads)
    assert all(torch.isfinite(grad).all() for grad in grads.values())


@each_learner
def test_two_runs_with_one_seed_are_one_run(method, make):
    assert_identical(learned(make(method)), learned(make(method)))


def test_what_a_method_discloses_has_a_text():
    declared = {name: TRAINER_REGISTRY.get(name).disclosures for name in METHODS}
    assert set().union(*declared.values()) <= DISCLOSURES.keys()
    assert declared["APLe"] == ("reconstruction",)
    assert declared["CoOp"] == ()


@pytest.mark.parametrize("method", METHODS)
def test_a_size_that_the_backbone_does_not_take_is_named(method, make):
    with pytest.raises(ValueError, match=r"INPUT\.SIZE is \(24, 24\), mini takes \(32, 32\)"):
        make(method, "INPUT.SIZE", (24, 24))
