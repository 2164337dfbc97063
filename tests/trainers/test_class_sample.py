"""Training steps that tell apart a sample of the classes only."""

import pytest
import torch

from dassl.utils import set_random_seed
from tests.trainers.harness import LEARNERS, assert_close, build, evaluate, fit, interrupt, learned, make_cfg
from trainers.class_sample import draw_classes

SAMPLE = ["TRAINER.CLASS_SAMPLE", 6]


def batch_of(trainer, step=0):
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, step, 4
    return next(iter(trainer.train_loader_x))


def test_a_draw_holds_the_batch_and_depends_on_nothing_else():
    labels = torch.tensor([7, 3, 3, 90])
    drawn = draw_classes(labels, 100, 10, (1, 5))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert len(drawn) == 10
    assert set(labels.tolist()) <= set(drawn.tolist()) <= set(range(100))
    set_random_seed(99)
    assert torch.equal(drawn, draw_classes(labels.flip(0), 100, 10, (1, 5)))
    assert not torch.equal(drawn, draw_classes(labels, 100, 10, (1, 6)))


def test_every_other_class_is_as_likely():
    labels = torch.tensor([0, 1])
    counts = torch.zeros(20)
    for step in range(2000):
        counts[draw_classes(labels, 20, 8, (0, step))] += 1
    assert counts[:2].tolist() == [2000, 2000]
    expected = 2000 * 6 / 18  # the draws are fixed; five standard deviations
    assert (counts[2:] - expected).abs().max() < 5 * (expected * (1 - 6 / 18)) ** 0.5


@pytest.mark.parametrize("method", LEARNERS)
def test_a_step_scores_the_drawn_classes_as_among_all(method, make):
    trainer = make(method, *SAMPLE)
    batch = batch_of(trainer)
    with torch.no_grad():
        images = batch["img"]
        everything = trainer.model.loss(images, batch["label"])[1]
        images, labels = trainer.parse_batch_train(batch)
        classes = trainer.model.class_texts.classes
        loss, logits = trainer.model.loss(images, labels)
    assert len(classes) == 6
    assert torch.equal(classes[labels], batch["label"])
    assert_close(logits, everything[:, classes], 1e-5)
    assert torch.isfinite(loss)

    trainer.forward_backward(batch)
    assert evaluate(trainer, images).shape[1] == 10  # a sample is of training steps


def test_the_loss_is_that_of_a_data_set_with_these_classes(make):
    """A data set of the five base classes alone, and a sample that happens to be these."""
    base = make("KgCoOp", "DATASET.SUBSAMPLE_CLASSES", "base")
    sampled = make("KgCoOp", *SAMPLE)
    sampled.model.load_state_dict(base.model.state_dict())
    batch = batch_of(base)
    expected = base.model.loss(batch["img"], batch["label"])[0]
    sampled.model.class_texts.classes = torch.arange(5)
    assert_close(sampled.model.loss(batch["img"], batch["label"])[0], expected, 1e-5)


def test_a_resumed_run_draws_the_same_classes(data_root, tmp_path):
    def cfg(folder):
        return make_cfg("CoOp", data_root, tmp_path / folder, *SAMPLE)

    straight = fit(build(cfg("straight")))
    stopped = build(cfg("resumed"))

    interrupt(stopped, 1)
    set_random_seed(5)  # a process of its own
    resumed = fit(build(cfg("resumed")))
    assert all(torch.equal(value, learned(straight)[name]) for name, value in learned(resumed).items())


def test_a_sample_of_all_classes_is_no_sample(make):
    trainer = make("CoOp", "TRAINER.CLASS_SAMPLE", 12)
    _, labels = trainer.parse_batch_train(batch := batch_of(trainer))
    assert trainer.model.class_texts.classes is None
    assert torch.equal(labels, batch["label"])


def test_a_sample_smaller_than_the_batch_is_refused(make):
    with pytest.raises(ValueError, match=r"TRAINER\.CLASS_SAMPLE is 4, a batch may have 5 classes"):
        make("CoOp", "TRAINER.CLASS_SAMPLE", 4)


def test_a_method_that_scores_all_classes_anyway_is_told(make, monkeypatch):
    trainer = make("VPT", *SAMPLE)
    monkeypatch.setattr(trainer.model, "encode_texts", lambda: trainer.model.texts)
    with pytest.raises(ValueError, match=r"CLASS_SAMPLE is 6, but VPT scores 10 classes"):
        trainer.forward_backward(batch_of(trainer))


def test_without_hierarchy_there_are_no_tokens_to_sample(make):
    """MMTPA's transport between prompts alone has no lengths of token sets."""
    trainer = make("MMTPA", *SAMPLE, "TRAINER.MMTPA.HIERARCHICAL", False)
    batch = batch_of(trainer)
    with torch.no_grad():
        everything = trainer.model.loss(batch["img"], batch["label"])[1]
        images, labels = trainer.parse_batch_train(batch)
        logits = trainer.model.loss(images, labels)[1]
    assert_close(logits, everything[:, trainer.model.class_texts.classes], 1e-5)
