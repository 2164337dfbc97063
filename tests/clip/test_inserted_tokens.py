"""Tokens that enter in front of a block, of texts and of images, against the plain computation."""

from dataclasses import replace

import pytest
import torch

from clip import NONE, Changes, Layout, Tap, TextPrompts, Tokens
from tests.clip.plain_towers import LAYOUT, UNEQUAL, W_T, W_V, N, check_images, check_texts, draw, entering
from tests.clip.test_text_tower import assert_close, make_prompts


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(
    ("inserted_at", "kept", "offset"), [(0, 0.0, 0), (1, 0.0, 0), (1, 0.3, 1), (2, 0.0, 0)]
)
@pytest.mark.parametrize("layout", [LAYOUT, UNEQUAL], ids=["equal", "unequal"])
def test_tokens_inserted_into_texts(layout, inserted_at, kept, offset, tokens, form, original, towers):
    layout = replace(layout, tokens=(5, 4, 7)) if tokens else layout
    changes = Changes(tokens=entering((len(layout.roots), N, W_T), inserted_at, kept, offset))
    check_texts(original, towers, changes, layout)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(
    ("block", "kept", "offset", "roots"), [(1, 0.0, 0, 2), (2, 0.0, 0, 1), (1, 0.3, 1, 2), (0, 0.0, 0, 1)]
)
def test_tokens_that_differ_by_class(block, kept, offset, roots, tokens, form, original, towers):
    layout = Layout((4,) * roots, *((4, 3, 6), (3, 2, 5)), (5, 4, 7) if tokens else ())
    own = Tokens(block, draw(3, roots, N, W_T), kept=kept, offset=offset)
    check_texts(original, towers, Changes(tokens=(own,)), layout)


def test_tokens_of_all_kinds_in_one_tower(form, original, towers):
    """One set for all roots of a class, into a root that grew."""
    inserted = Tokens(0, draw(2, 1, W_T), insert=True)
    shared, own = Tokens(1, draw(2, N, W_T), kept=0.5), Tokens(1, draw(3, 1, N, W_T, seed=1), offset=2)
    check_texts(original, towers, Changes(tokens=(inserted, shared, own)))


def test_classes_are_selected_with_their_tokens(towers):
    root, branch = make_prompts(LAYOUT, W_T)
    prompts, changes = TextPrompts(root, branch, LAYOUT), Changes(tokens=(Tokens(1, draw(3, 2, N, W_T)),))
    whole = towers.text(prompts, changes).summary
    part = towers.text(prompts.select([2, 0]), changes.select([2, 0])).summary
    assert_close(part, whole[[2, 0]])


def test_what_is_before_a_split_is_shared(towers):
    """Until its block a text costs nothing more: what is kept for the gradient is that of shared roots."""

    def kept_bytes(block):
        root, branch = make_prompts(LAYOUT, W_T)
        changes, sizes = Changes(tokens=(Tokens(block, draw(3, 2, N, W_T)),)), {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            towers.text(TextPrompts(root, branch, LAYOUT), changes)
        return sum(sizes.values())

    assert kept_bytes(2) < kept_bytes(1) < kept_bytes(0)


@pytest.mark.parametrize(
    "tokens", [False, True, Tap("added", projected=False)], ids=["class", "all", "added"]
)
@pytest.mark.parametrize(
    ("inserted_at", "kept", "copies"), [(0, 0.0, 1), (1, 0.3, 1), (1, 0.0, 2), (2, 0.0, 1)]
)
def test_tokens_inserted_into_images(inserted_at, kept, copies, tokens, original, towers, images):
    changes = Changes(tokens=entering((copies, N, W_V), inserted_at, kept))
    check_images(original, towers, changes, images, tokens)


def test_tokens_inserted_beside_visual_prompts(original, towers, images):
    tokens = Tokens(1, draw(2, 1, W_V), insert=True), Tokens(2, draw(2, 3, W_V, seed=1), kept=0.5, offset=1)
    check_images(original, towers, Changes(draw(2, 3, W_V, seed=2), tokens), images, tokens=True)


@pytest.mark.parametrize(
    "tap",
    [
        *(
            Tap("patches", path, projected)
            for path in ("attention", "values", "value-value")
            for projected in (True, False)
        ),
        Tap("patches", "value-value", first_attention=True),
    ],
    ids=str,
)
def test_local_features(tap, original, towers, images):
    check_images(original, towers, Changes(draw(2, 3, W_V)), images, tap)


# What cannot be


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([Tokens(3, torch.zeros(2, N, W_T))], "tokens enter block 3 (from 0), the text tower has 0 to 2"),
        ([Tokens(1, torch.zeros(2, 4, W_T))], "4 tokens enter behind 0 others in front of block 1 of the text tower"),
        ([Tokens(1, torch.zeros(3, 2, N, W_T), insert=True)], "must replace others, and be the last"),
        ([Tokens(2, torch.zeros(2, N, W_T)), Tokens(1, torch.zeros(2, N, W_T))], "their order is that of blocks"),
    ],
)  # fmt: skip
def test_tokens_that_a_text_tower_does_not_take(tokens, message, towers):
    with pytest.raises(ValueError) as error:
        towers.text(TextPrompts(*make_prompts(LAYOUT, W_T), LAYOUT), Changes(tokens=tuple(tokens)))
    assert message in str(error.value)


def test_a_split_needs_roots_of_one_length(towers):
    changes = Changes(tokens=(Tokens(1, torch.zeros(3, 3, N, W_T)),))
    with pytest.raises(ValueError, match=r"need roots of the same length, these have \(4, 3, 5\)"):
        towers.text(TextPrompts(*make_prompts(UNEQUAL, W_T), UNEQUAL), changes)


def test_tokens_that_an_image_tower_does_not_take(towers, images):
    with pytest.raises(
        ValueError, match="2 tokens are to replace others in front of block 1, behind the patches there are 0"
    ):
        towers.image(images, Changes(tokens=(Tokens(1, torch.zeros(1, N, W_V)),)))
    with pytest.raises(ValueError, match=r"block 3 \(from 0\), the image tower has 0 to 2"):
        towers.image(images, Changes(tokens=(Tokens(3, torch.zeros(1, N, W_V), insert=True),)))


def test_an_empty_change_changes_nothing(towers, images):
    assert NONE.none
    assert torch.equal(towers.image(images, NONE).summary, towers.image(images).summary)
    assert NONE.tensors() == []
    assert NONE.select([1]) is NONE
