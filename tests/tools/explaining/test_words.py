"""Neighbours of context tokens in the vocabulary."""

import pytest
import torch

from clip import decode
from tests.tools.explaining.models import NAMES, ready
from tools.explaining.words import as_text, nearest_words


def test_a_context_that_begins_as_words_is_found_to_be_these(tmp_path):
    model, _ = ready("MMTPA", tmp_path)
    found = nearest_words(model, NAMES)
    assert [(one.prompt, one.token) for one in found] == [
        (str(n), f"v{i}") for n in range(1, 5) for i in range(1, 5)
    ]
    assert [one.entries[0][0] for one in found[:4]] == ["a", "photo", "of", "a"]
    for one in found[:4]:
        assert one.entries[0][1] == pytest.approx(0, abs=1e-3)
        assert one.as_near == 0
        assert one.random[0] > 0.3 * one.norm


def test_random_tokens_are_as_near_as_random_ones(tmp_path):
    model, _ = ready("CoOp", tmp_path, "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", 8)
    found = nearest_words(model, NAMES)
    assert len(found) == 8
    assert all(one.prompt == "" for one in found)
    assert 0.1 < sum(one.as_near for one in found) / 8 < 0.9


def test_distances_are_those_to_the_embeddings(tmp_path):
    model, _ = ready("CoOp", tmp_path)
    table = model.clip.text.token_embedding.weight
    one = nearest_words(model, NAMES, k=5)[2]
    vector = model.context.ctx[2].detach()
    by_hand = (table - vector).norm(dim=1).sort()
    assert [distance for _, distance in one.entries] == pytest.approx(by_hand.values[:5].tolist(), abs=1e-3)
    assert one.norm == pytest.approx(float(vector.norm()), rel=1e-5)
    assert [word for word, _ in one.entries] == decode(by_hand.indices[:5].tolist())


def test_contexts_of_classes_are_named(tmp_path):
    model, _ = ready("CoOp", tmp_path, "TRAINER.COOP.CSC", True, names=["red_fox", "hare"])
    found = nearest_words(model, ["red_fox", "hare"])
    assert {one.prompt for one in found} == {"red_fox", "hare"}


def test_the_table_names_what_it_compares(tmp_path):
    model, _ = ready("CoOp", tmp_path)
    lines = list(as_text(nearest_words(model, NAMES)))
    assert lines[0].split()[:2] == ["token", "norm"]
    assert len(lines) == 1 + len(model.context.ctx) + 2
    assert "100 random vectors" in lines[-1]


@pytest.mark.parametrize("method", ["VPT", "ZeroshotCLIP"])
def test_a_method_without_context_is_named(method, tmp_path):
    model, _ = ready(method, tmp_path)
    with pytest.raises(ValueError, match=f"^{method} learns no context tokens"):
        nearest_words(model, NAMES)


def test_random_vectors_have_the_norm_of_the_token(tmp_path):
    """Longer ones are farther from everything."""
    model, _ = ready("CoOp", tmp_path)
    with torch.no_grad():
        model.context.ctx[1] = model.context.ctx[0] * 10
    first, second = nearest_words(model, NAMES)[:2]
    assert second.norm == pytest.approx(10 * first.norm, rel=1e-4)
    assert second.random[1] > 5 * first.random[1]
