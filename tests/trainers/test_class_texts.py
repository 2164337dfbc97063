"""Class texts in chunks equal class texts at once: features, loss and gradients."""

import pytest
import torch

import clip.arrangement
from tests.trainers.harness import LEARNERS, assert_close
from trainers import class_texts
from trainers.class_names import Classes


def loss_and_gradients(trainer, images):
    labels = torch.arange(len(images))
    trainer.model.zero_grad()
    loss, logits = trainer.model.loss(images, labels)
    loss.backward()
    grads = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.detach(), logits.detach(), grads


@pytest.mark.parametrize("method", LEARNERS)
def test_chunks_change_nothing(method, make, images):
    trainer = make(method, "MODEL.TEXT_CHUNK", 10, "DATASET.SUBSAMPLE_CLASSES", "base")
    whole = loss_and_gradients(trainer, images[:3])
    for trainer.model.class_texts.chunk in (2, 1):  # of five
        loss, logits, grads = loss_and_gradients(trainer, images[:3])
        assert_close(loss, whole[0], 1e-5)
        assert_close(logits, whole[1], 1e-5)
        assert grads.keys() == whole[2].keys()
        for name, grad in grads.items():
            assert_close(grad, whole[2][name], 1e-5)


def test_classes_of_different_length_keep_all_their_tokens(make):
    """Chunks of classes with shorter names have shorter token sets; they are filled up like the whole."""
    trainer = make("MMTPA", config="configs/trainers/MMTPA/mini.yaml")
    prompts, changes = trainer.model.text_prompts(), trainer.model.text_changes()
    assert len(set(prompts.layout.tokens)) == 1  # digits are one word each
    names = ["sun", "the annual crop land", "river", "a highway or a road", "sea"]
    model = trainer._build_prompts(trainer.model.clip, Classes(names, "a photo of a {}."))
    prompts, changes = model.text_prompts(), model.text_changes()
    whole = model.clip.text(prompts, changes)
    model.class_texts.chunk = 1
    parts = model.text_features()
    assert_close(parts.summary, whole.summary, 1e-5)
    assert_close(parts.tokens, whole.tokens, 1e-5)


@pytest.mark.parametrize("method", ["CoOp", "MMTPA", "IVLP"])
def test_a_chunk_keeps_no_more_than_the_memory_allows(method, make):
    """The estimate from one and two classes is what a pass really keeps, and chunks follow from it."""
    model = make(method).model
    prompts, changes = model.text_prompts(), model.text_changes()
    shared, each, longest = class_texts.activation_bytes(model.clip.text, prompts, changes)
    assert each == pytest.approx(longest)  # classes of one length
    model.class_texts.memory = (shared + 4.5 * each) / class_texts.GIB

    sizes = []
    tower = model.clip.text.forward
    model.clip.text.forward = lambda part, changes: (
        sizes.append(len(part.layout.branches)) or tower(part, changes)
    )
    try:
        model.encode_texts()
        assert sizes == [1, 2, 4, 4, 2]  # measured on one and two; ten classes in three chunks
    finally:
        del model.clip.text.forward


@pytest.mark.parametrize("method", ["CoOp", "MMTPA"])
def test_what_is_kept_is_known_where_roots_are_repeated(method, make, monkeypatch):
    """As on a GPU, in rows of few tokens: with every row the root's are kept again."""
    monkeypatch.setattr(clip.arrangement, "ROW", 24)
    model = make(method).model
    monkeypatch.setattr(model.clip.text, "packed", False)
    clip.arrangement.arrange.cache_clear()
    prompts, changes = model.text_prompts(), model.text_changes()
    shared, each, _ = class_texts.activation_bytes(model.clip.text, prompts, changes)
    sizes = {}

    def note(tensor):
        sizes[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.clip.text(prompts, changes)
    weights = {parameter.untyped_storage()._cdata for parameter in model.clip.text.parameters()}
    kept = sum(tensor.untyped_storage().nbytes() for key, tensor in sizes.items() if key not in weights)
    clip.arrangement.arrange.cache_clear()
    assert shared + 10 * each == pytest.approx(kept, rel=0.1)


def test_evaluation_needs_less_memory_than_training(make):
    model = make("CoOp").model
    prompts, changes = model.text_prompts(), model.text_changes()
    shared, each, _ = class_texts.activation_bytes(model.clip.text, prompts, changes)
    model.class_texts.memory = (shared + 1.5 * each) / class_texts.GIB
    training = model.class_texts._classes_that_fit(prompts, changes)
    with torch.no_grad():
        assert model.class_texts._classes_that_fit(prompts, changes) > training == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("MODEL.TEXT_CHUNK", -1, r"^MODEL\.TEXT_CHUNK is -1"),
        ("MODEL.TEXT_MEMORY", -0.5, r"^MODEL\.TEXT_MEMORY is -0\.5"),
        ("MODEL.TEXT_MEMORY", 1e-9, r"^MODEL\.TEXT_MEMORY is 1e-09 GiB, the texts of one class take .* GiB"),
    ],
)
def test_what_is_too_small_is_named(key, value, words, make):
    with pytest.raises(ValueError, match=words):
        make("CoOp", key, value).model.encode_texts()
