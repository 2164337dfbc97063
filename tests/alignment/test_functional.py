"""The transport under torch.func."""

import pytest
import torch
from torch.func import grad, vmap

from alignment import hierarchical_transport, prompt_plan, token_plan, token_transport
from tests.alignment.samples import tokens

X, Y = tokens(4, 2, 2, 7, 16, seed=1).double(), tokens(4, 3, 2, 5, 16, seed=2).double()
LENGTHS = torch.tensor([5, 2, 1])
OPTIONS = [
    {},
    {"stop": "release", "tol": 1e-4},
    {"eps": 0.02, "max_iter": 20},
    {"reach": 0.3, "value": "regularised"},
    {"mass": 0.6, "value": "regularised"},
    {"stop": "fixed", "max_iter": 3, "normalize": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_of_calls_is_as_good_as_many(options):
    def together(x, y):
        return token_transport(x, y, LENGTHS, **options)

    mapped = vmap(together)(X, Y)
    for x, y, ours in zip(X, Y, mapped):
        torch.testing.assert_close(ours, together(x, y))


def test_what_else_is_mapped():
    weights = torch.rand(4, 3, 1, 5, generator=torch.Generator().manual_seed(3)).double()
    mapped = vmap(lambda x, v: token_plan(x, Y[0], LENGTHS, text_weights=v))(X, weights)
    torch.testing.assert_close(mapped[2], token_plan(X[2], Y[0], LENGTHS, text_weights=weights[2]))
    costs = torch.rand(4, 2, 3, 4, 5, generator=torch.Generator().manual_seed(4))
    for stop in ("problem", "release"):
        mapped = vmap(lambda cost, stop=stop: prompt_plan(cost, stop=stop))(costs)
        torch.testing.assert_close(mapped[1], prompt_plan(costs[1], stop=stop), rtol=1e-5, atol=1e-7)
    points = X[..., 0, :], Y[..., 0, :]
    mapped = vmap(lambda *given: hierarchical_transport(*given, LENGTHS))(*points, X, Y)
    torch.testing.assert_close(
        mapped[3], hierarchical_transport(points[0][3], points[1][3], X[3], Y[3], LENGTHS)
    )


@pytest.mark.parametrize("reach", [float("inf"), 0.3])
def test_gradients_of_each_of_a_batch(reach):
    weights = torch.rand(4, 1, 1, 7, generator=torch.Generator().manual_seed(3)).double() + 0.1

    def optimum(x, y, u):
        options = {"image_weights": u, "reach": reach, "value": "regularised"}
        return token_transport(x, y, LENGTHS, **options).sum()

    mapped = vmap(grad(optimum, argnums=(0, 1, 2)))(X, Y, weights)
    leaves = [t.clone().requires_grad_() for t in (X[1], Y[1], weights[1])]
    for ours, expected in zip(mapped, torch.autograd.grad(optimum(*leaves), leaves)):
        torch.testing.assert_close(ours[1], expected)
