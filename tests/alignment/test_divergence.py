"""The debiased divergence, and the largest entries of plans."""

import pytest
import torch

from alignment import divergence, token_divergence, token_matches, token_plan, token_transport
from tests.alignment.samples import tokens

X, Y = tokens(2, 2, 6, 8, seed=1, dtype=torch.float64), tokens(3, 1, 4, 8, seed=2, dtype=torch.float64)
LENGTHS = torch.tensor([4, 2, 3])
CONVERGED = {"tol": 1e-10, "max_iter": 3000}


@pytest.mark.parametrize(("eps", "reach"), [(0.1, float("inf")), (0.04, 0.4)])
def test_it_is_the_optimum_less_those_of_the_sets_against_themselves(eps, reach):
    generator = torch.Generator().manual_seed(3)
    u, v = torch.rand(2, 2, 6, generator=generator).double(), torch.rand(4, generator=generator).double()
    options = {"eps": eps, "reach": reach, **CONVERGED}
    found = token_divergence(X, Y, LENGTHS, image_weights=u, text_weights=v, **options)
    for b, c, m in ((0, 1, 1), (1, 2, 0)):
        x, y = X[b : b + 1, m : m + 1], Y[c : c + 1, :, : LENGTHS[c]]
        of_x, of_y = u[b, m], v[: LENGTHS[c]]

        def optimum(*sets, weights):
            sides = {"image_weights": weights[0], "text_weights": weights[1]}
            return token_transport(*sets, value="regularised", **sides, **options).squeeze()

        expected = optimum(x, y, weights=(of_x, of_y))
        expected -= optimum(x, x, weights=(of_x, of_x)) / 2 + optimum(y, y, weights=(of_y, of_y)) / 2
        torch.testing.assert_close(found[b, c, m, 0], expected, rtol=1e-6, atol=1e-9)
    assert (found > 0).all()


@pytest.mark.parametrize("reach", [float("inf"), 0.4])
def test_equal_sets_have_none_and_exchange_changes_nothing(reach):
    options = {"reach": reach, **CONVERGED}
    itself = token_divergence(X, X.flip(2), **options)
    assert itself[0, 0].diagonal().abs().max() < 1e-10
    there, back = token_divergence(X, Y, **options), token_divergence(Y, X, **options)
    torch.testing.assert_close(there, back.permute(1, 0, 3, 2), rtol=1e-7, atol=1e-10)


def test_its_gradients():
    def total(x, y, u, eps):
        return token_divergence(
            x, y, LENGTHS, image_weights=u, eps=eps, normalize=True, memory=1, **CONVERGED
        )

    u = torch.rand(2, 1, 6, generator=torch.Generator().manual_seed(3)).double() + 0.1
    eps = torch.tensor(0.1, dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (X, Y, u, eps)]
    assert torch.autograd.gradcheck(total, inputs, atol=1e-6, fast_mode=True)
    minimum = X[:1, :1].clone().requires_grad_()
    value = token_divergence(minimum, X[:1, :1], **CONVERGED)
    assert torch.autograd.grad(value.sum(), minimum)[0].abs().max() < 1e-8


def test_self_terms_are_computed_once_for_each_set(monkeypatch):
    solved = []
    optimum = divergence._optimum
    monkeypatch.setattr(
        divergence, "_optimum", lambda x, *others: solved.append(len(x)) or optimum(x, *others)
    )
    token_divergence(X, Y)
    assert solved == [4, 3]  # and not 2 * 4 * 3


def test_what_makes_no_divergence_is_refused():
    with pytest.raises(ValueError, match=r"mass is 0\.5, expected 1"):
        token_divergence(X, Y, mass=0.5)
    with pytest.raises(ValueError, match="diagnostics is True, expected False"):
        token_divergence(X, Y, diagnostics=True)
    with pytest.raises(ValueError, match="expected one for both sides"):
        token_divergence(X, Y, reach=(0.1, 0.2))


@pytest.mark.parametrize("memory", [2**20, 1])
def test_the_largest_entries_are_those_of_the_whole_plans(memory):
    found = token_matches(X, Y, LENGTHS, k=3, memory=memory)
    plan = token_plan(X, Y, LENGTHS)
    largest, places = plan.flatten(4).topk(3)
    assert torch.equal(found.mass, largest)
    assert torch.equal(found.image_token * 4 + found.text_token, places)
    with pytest.raises(ValueError, match="k is 25, expected 1 to 24 for plans of 6 x 4 tokens"):
        token_matches(X, Y, k=25)
