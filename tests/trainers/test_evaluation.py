"""Evaluation in chunks of classes keeps what evaluation of all classes finds best."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundation.probabilities import Probabilities
from tests.trainers.harness import METHODS, assert_close, evaluate
from trainers.top_classes import TopClasses


@pytest.mark.parametrize("method", METHODS)
def test_chunks_find_the_same_best_classes(method, make, images):
    at_once = make(method)
    whole = evaluate(at_once, images)
    trainer = make(method, "TEST.CLASS_CHUNK", 4, "TEST.TOP_K", 3)
    trainer.model.load_state_dict(at_once.model.state_dict())
    labels = torch.tensor([0, 3, 4, 9, 9, 5])
    of_all, trainer.probabilities = Probabilities({"warm": 20.0}), Probabilities({"warm": 20.0})
    trainer.parse_batch_test({"img": images, "label": labels})
    best = evaluate(trainer, images)
    assert isinstance(best, TopClasses)
    logits, classes = whole.topk(3)
    assert_close(best.logits, logits, 1e-5)
    assert torch.equal(best.classes, classes)
    of_all.add(whole, labels)
    trainer.probabilities.add(best, labels)
    for name in ("", "warm"):
        ours, theirs = trainer.probabilities.calibration(name), of_all.calibration(name)
        assert ours[:3] == pytest.approx(theirs[:3], rel=1e-4)
        assert torch.allclose(
            *(torch.tensor(found.confidences(name)) for found in (trainer.probabilities, of_all)), rtol=1e-4
        )
    # beside it the model is what it was
    assert trainer.model.logits(images, trainer.model.encode_texts()).shape == whole.shape


@pytest.mark.parametrize("method", ["CoOp", "MMTPA"])
def test_images_and_texts_are_encoded_once(method, make, images):
    trainer = make(method, "TEST.CLASS_CHUNK", 4)
    calls = []
    towers = trainer.model.clip.image, trainer.model.clip.text
    hooks = [
        tower.register_forward_hook(lambda tower, *_: calls.append(type(tower).__name__)) for tower in towers
    ]
    evaluate(trainer, images)
    trainer.model_inference(images)
    for hook in hooks:
        hook.remove()
    assert calls == ["TextTower"] * 3 + ["ImageTower"] * 2


LOGITS = st.lists(st.integers(-3, 3), min_size=12, max_size=12)  # many are equal


@given(st.lists(LOGITS, min_size=1, max_size=3), st.integers(1, 12), st.integers(1, 12))
def test_the_best_of_chunks_are_the_best_of_all(rows, size, k):
    logits = torch.tensor(rows, dtype=torch.float32)
    best = TopClasses.none(len(logits), logits.device)
    for classes in torch.arange(12).split(size):
        best = best.with_chunk(logits[:, classes], classes, k)
    values, classes = logits.sort(dim=1, descending=True, stable=True)
    assert torch.equal(best.logits, values[:, :k])
    assert torch.equal(best.classes, classes[:, :k])
    assert torch.equal(best.argmax(dim=1), logits.argmax(dim=1))
    assert torch.equal(best.max(1)[1], logits.argmax(dim=1))
    assert torch.equal(best.topk(1, dim=1)[0], values[:, :1])


def test_more_than_was_kept(images):
    best = TopClasses.none(2, images.device).with_chunk(torch.rand(2, 5), torch.arange(5), 3)
    with pytest.raises(ValueError, match=r"^the 4 best classes are asked for, 3 were kept$"):
        best.topk(4, dim=1)


def test_a_negative_chunk(make):
    with pytest.raises(ValueError, match=r"^TEST\.CLASS_CHUNK is -1, 0 or more is needed"):
        make("CoOp", "TEST.CLASS_CHUNK", -1)


def test_an_evaluator_that_may_need_all_logits(make):
    with pytest.raises(ValueError, match=r"^TEST\.CLASS_CHUNK is 4, .* TEST\.EVALUATOR Mine"):
        make("CoOp", "TEST.CLASS_CHUNK", 4, "TEST.EVALUATOR", "Mine")


def test_chunks_of_mmtpa_without_hierarchy(make, images):
    flat = ["TRAINER.MMTPA.HIERARCHICAL", False]
    at_once, trainer = make("MMTPA", *flat), make("MMTPA", *flat, "TEST.CLASS_CHUNK", 4)
    trainer.model.load_state_dict(at_once.model.state_dict())
    assert torch.equal(evaluate(trainer, images).argmax(dim=1), evaluate(at_once, images).argmax(dim=1))


@pytest.mark.parametrize("chunk", [0, 4])
def test_logits_that_are_not_finite_have_no_accuracy(chunk, make):
    trainer = make("CoOp", "TEST.CLASS_CHUNK", chunk)
    with torch.no_grad():
        trainer.model.context.ctx[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"^the logits of (\d+) of \1 images are not finite numbers"):
        trainer.test()
