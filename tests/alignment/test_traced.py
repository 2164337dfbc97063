"""The transport as a graph's own loop says what the other solvers say."""

import pytest
import torch

from alignment import hierarchical_transport, traced
from tests.alignment.samples import tokens


@pytest.mark.parametrize(
    ("variant", "eps", "stop"),
    [
        ("paper", 0.1, "problem"),
        ("release", 0.1, "release"),
        ("paper", 0.02, "release"),
        ("paper", 0.1, "fixed"),
    ],
)
def test_it_equals_the_other_solvers(variant, eps, stop):
    x, y = tokens(2, 3, 16), tokens(4, 2, 16, seed=3)
    words, names = tokens(2, 3, 7, 16, seed=1), tokens(4, 2, 5, 16, seed=2)
    lengths = torch.tensor([5, 2, 1, 4])
    options = {"variant": variant, "beta": 0.7, "eps": eps, "max_iter": 20, "stop": stop, "tol": 1e-2}
    for inputs in ((x, y, words, names, lengths), (x, y, None, None, None)):
        ours = traced.hierarchical_transport(*inputs, **options)
        assert torch.allclose(ours, hierarchical_transport(*inputs, **options), atol=1e-5)


@pytest.mark.parametrize("option", [{"mass": 0.5}, {"token_reach": 1.0}, {"schedule": [0.5]}], ids=str)
def test_what_a_graph_has_not_is_refused(option, monkeypatch):
    monkeypatch.setattr(traced, "is_asked_for", lambda: True)
    [name] = option
    with pytest.raises(ValueError, match=f"^{name} is .* while a model is exported"):
        hierarchical_transport(tokens(2, 3, 16), tokens(4, 2, 16), **option)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)])
def test_a_single_prompt_leaves_one_plan(shape):
    x, y = tokens(2, shape[0], 16), tokens(4, shape[1], 16)
    options = {"variant": "paper", "beta": 1.0, "eps": 0.1, "max_iter": 20, "stop": "problem", "tol": 1e-2}
    ours = traced.hierarchical_transport(x, y, None, None, None, **options)
    assert torch.allclose(ours, hierarchical_transport(x, y, **options), atol=1e-5)
