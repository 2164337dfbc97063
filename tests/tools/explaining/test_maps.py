"""Maps of real models lie where things are in the picture."""

import functools
import math
import operator

import numpy as np
import pytest
import torch
from PIL import Image

from clip.changes import count
from datasets.shapes import THINGS
from tests.tools.explaining.models import NAMES, ready, side_by_side
from tests.trainers.harness import METHODS
from tools.explaining.maps import Pair, distance, explain, first_word, relative_mass, seen

LEFT, RIGHT = (np.isin(np.arange(16), [4 + x, 5 + x, 8 + x, 9 + x]) for x in (0, 2))  # of 4 x 4 patches
CONTEXT = slice(1, 5)


@pytest.fixture
def picture():
    return side_by_side(THINGS[0], THINGS[30], np.random.default_rng(0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_explained_with_its_own_logits(method, tmp_path, picture):
    model, transform = ready(method, tmp_path)
    explanation = explain(model, picture, transform, NAMES, 3, "name")
    with torch.no_grad():
        logits = model.logits(transform(picture)[None], model.encode_texts())[0]
    best = logits.topk(3)
    assert [one.name for one in explanation.candidates] == [NAMES[i] for i in best.indices.tolist()]
    assert [one.logit for one in explanation.candidates] == pytest.approx(best.values.tolist(), rel=1e-5)
    probabilities = logits.softmax(0)[best.indices].tolist()
    assert [one.probability for one in explanation.candidates] == pytest.approx(probabilities, rel=1e-4)
    assert explanation.grid == (4, 4)
    changes = model.image_changes()
    shallow = 0 if changes.prompts is None else changes.prompts.shape[1]
    assert explanation.prompts == shallow + sum(count(tokens) for tokens in changes.tokens if tokens.insert)
    assert explanation.matched == (method in ("MMTPA", "PLOT", "SOTGLP"))
    for one in explanation.candidates:
        assert (one.uniform is not None) == explanation.matched
        assert (one.strongest is not None) == (method == "MMTPA")
        if one.strongest is not None:  # found without the plans, there as in them
            word, token, times = one.strongest
            all_pairs = functools.reduce(operator.iadd, one.pairs, [])
            assert times == pytest.approx(max(relative_mass(pair).max() for pair in all_pairs), rel=1e-4)
            at = [
                relative_mass(pair)[token, pair.words.index(word)] for pair in all_pairs if word in pair.words
            ]
            assert max(at) == pytest.approx(times, rel=1e-4)
        for pair in functools.reduce(operator.iadd, one.pairs, []):
            assert pair.values.shape == (16 + explanation.prompts, len(pair.words))
            if explanation.matched:
                assert pair.values.sum() == pytest.approx(1, abs=1e-5)
                assert relative_mass(pair).mean(0) == pytest.approx(1, abs=1e-4)


def test_prompts_without_tokens_have_a_plan_and_cosines(tmp_path, picture):
    model, transform = ready("MMTPA", tmp_path, "TRAINER.MMTPA.HIERARCHICAL", False)
    explanation = explain(model, picture, transform, NAMES, 2)
    assert not explanation.matched
    assert explanation.candidates[0].plan.shape == (4, 4)
    assert explanation.candidates[0].pairs[0][0].values.shape == (20, 1)


def context_map(model, transform, picture, label):
    """Mass of the context tokens, as a multiple of the uniform plan's, of all patches and pairs of prompts."""
    [candidate] = [
        one
        for one in explain(model, picture, transform, NAMES, len(NAMES)).candidates
        if one.name == NAMES[label]
    ]
    maps = [relative_mass(pair) for row in candidate.pairs for pair in row]
    return [np.mean([m[:16, part].mean(1) for m in maps], axis=0) for part in (CONTEXT, slice(5, None))]


@pytest.mark.parametrize("method", ["MMTPA", "CoOp"])
def test_a_change_of_one_patch_shows_there(method, tmp_path):
    """So maps are not turned, mirrored or shifted: row by row, as the patches of the picture."""
    model, transform = ready(method, tmp_path)
    plain = Image.new("RGB", (64, 64), (150, 150, 150))
    before = all_maps(model, transform, plain)
    shown = []  # (16 changed patches, 16 patches of the maps)
    for cell in range(16):
        changed = plain.copy()
        row, column = divmod(cell, 4)
        changed.paste((215, 40, 40), (16 * column, 16 * row, 16 * column + 16, 16 * row + 16))
        shown.append(np.abs(all_maps(model, transform, changed) - before).sum(1))
    places = np.arange(16).reshape(4, 4)
    there = np.array(shown)[np.arange(16), places.ravel()].mean()
    for wrong in (places.T, places[::-1], places[:, ::-1], places[::-1, ::-1], np.roll(places, 1)):
        moved = wrong.ravel() != places.ravel()
        assert there > 1.2 * np.array(shown)[np.arange(16), wrong.ravel()][moved].mean()


def all_maps(model, transform, picture):
    """(16, all words of all classes, in the order of their names)."""
    candidates = explain(model, picture, transform, NAMES, len(NAMES)).candidates
    pairs = functools.reduce(
        operator.iadd, (row for one in sorted(candidates, key=lambda one: one.name) for row in one.pairs), []
    )
    return np.concatenate([pair.values[:16] for pair in pairs], axis=1)


def test_two_shapes_draw_as_the_page_on_it_says(tmp_path):
    """The context draws from the shapes, a little more from the named one; the name's own words from elsewhere."""
    model, transform = ready("MMTPA", tmp_path)
    rng = np.random.default_rng(2)
    own, other, own_name, other_name = [], [], [], []
    for i in range(12):
        left, right = i, 47 - i
        scene = side_by_side(THINGS[left], THINGS[right], rng)
        for label, here, there in ((left, LEFT, RIGHT), (right, RIGHT, LEFT)):
            context, name = context_map(model, transform, scene, label)
            own.append(context[here].mean())
            other.append(context[there].mean())
            own_name.append(name[here].mean())
            other_name.append(name[there].mean())
    assert np.mean(own) > np.mean(other) + 0.05
    assert np.mean(own) > 1.05
    assert np.mean(own_name) < np.mean(other_name) - 0.05


def test_distance_of_plans():
    assert distance(torch.full((6, 3), 1 / 18)) == pytest.approx(0, abs=1e-7)
    assert distance(torch.eye(3).repeat(2, 1) / 6) == pytest.approx(1)
    half = torch.tensor([[0.4, 0.1], [0.1, 0.4]])
    by_hand = (0.8 * math.log(1.6) + 0.2 * math.log(0.4)) / math.log(2)
    assert distance(half) == pytest.approx(by_hand, rel=1e-6)
    assert distance(torch.full((6, 1), 1 / 6)) is None


@pytest.mark.parametrize("size", [(64, 64), (90, 40), (40, 90), (20, 31), (3000, 2000)])
def test_the_picture_is_what_the_model_sees(size, tmp_path):
    _, transform = ready("ZeroshotCLIP", tmp_path)
    ramp = (
        np.linspace(0, 255, size[0])[None, :, None] * 0.5 + np.linspace(0, 255, size[1])[:, None, None] * 0.5
    )
    picture = Image.fromarray(np.repeat(ramp, 3, axis=2).astype(np.uint8))
    shown = seen(picture, (32, 32))
    assert max(shown.size) <= 448
    again = transform(shown)
    assert (again - transform(picture)).abs().max() < 0.15  # of a range of 3.7; a pixel's shift is 0.06 here


def test_a_name_is_found_among_its_words():
    words = ["[SOS]", "v1", "a", "air", "plane"]
    assert first_word(Pair(words, np.zeros((1, 5)), None), "airplane") == 3
    assert first_word(Pair(words, np.zeros((1, 5)), None), "zebra") == 0
    assert first_word(Pair(["red fox"], np.zeros((1, 1)), None), "red_fox") == 0
