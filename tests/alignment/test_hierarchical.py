"""Hierarchical transport, level by level."""

import math

import pytest
import torch

from alignment import hierarchical_transport, prompt_plan, token_transport
from tests.alignment.samples import tokens

OPTIONS_OF_LEVELS = [
    {"mass": 0.5},
    {"token_mass": 0.5},
    {"reach": (math.inf, 0.2), "token_reach": 0.3},
    {"schedule": (1.0, 0.3), "eps": 0.05},
]


@pytest.mark.parametrize("variant", ["paper", "release"])
@pytest.mark.parametrize("options", OPTIONS_OF_LEVELS, ids=str)
def test_levels_that_move_a_part_are_those_of_both_functions(options, variant):
    shapes = [(2, 3, 16), (4, 2, 16), (2, 3, 7, 16), (4, 2, 5, 16)]
    x, y, words, names = (tokens(*s, seed=i) for i, s in enumerate(shapes))
    lengths = torch.tensor([5, 2, 1, 4])
    value, how = hierarchical_transport(
        x, y, words, names, lengths, variant=variant, beta=0.7, diagnostics=True, **options
    )
    stop = {"stop": "problem" if variant == "paper" else "release"}
    both = {name: options[name] for name in ("schedule", "eps") if name in options} | stop
    of_tokens, of_prompts = (
        both | {name: options[prefix + name] for name in ("mass", "reach") if prefix + name in options}
        for prefix in ("token_", "")
    )
    cosine = torch.einsum("bmd,cnd->bcmn", x, y)
    similarity, of_level = token_transport(
        words, names, lengths, value="similarity", diagnostics=True, **of_tokens
    )
    cost = 1 - cosine + 0.7 * (1 - similarity if variant == "paper" else similarity)
    plan, of_plan = prompt_plan(cost, diagnostics=True, **of_prompts)
    expected = (plan * (1 - cost if variant == "paper" else cosine)).sum((-2, -1))
    torch.testing.assert_close(value, expected)
    for ours, theirs in ((how.tokens, of_level), (how.prompts, of_plan)):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(
        value, hierarchical_transport(x, y, words, names, lengths, variant=variant, beta=0.7, **options)
    )


def test_a_background_that_matches_nothing_is_left():
    """Of an image's four local features two are a class's prompts."""
    features = torch.eye(6)
    image, classes = features[None, :4].clone().requires_grad_(), features[None, :2]
    for part, moved in (({}, 0.2), ({"mass": 0.5}, 1e-6), ({"reach": 0.1}, 1e-2)):
        similarity = hierarchical_transport(image, classes, eps=0.02, **part)
        (gradient,) = torch.autograd.grad(similarity.sum(), image)
        background = gradient[0, 2:].abs().sum(1)
        assert (background > moved).all() if not part else (background < moved).all()
        assert similarity.item() >= 0.48
