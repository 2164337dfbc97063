"""What is known of a solution, how it can be helped, and the warning where it has not converged."""

import functools
import warnings

import pytest
import torch

from alignment import convergence, prompt_transport, token_matches, token_plan, token_transport
from tests.alignment.samples import tokens

X, Y = tokens(2, 2, 9, 16, seed=1), tokens(3, 2, 5, 16, seed=2)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(convergence, "_told", set())


@pytest.mark.parametrize("stop", ["problem", "release"])
@pytest.mark.parametrize("options", [{}, {"eps": 0.03}, {"reach": 0.2}, {"logarithms": True}], ids=str)
def test_the_iterations_are_those_after_which_each_problem_stopped(stop, options):
    lengths = torch.tensor([5, 2, 1])
    value, how = token_transport(X, Y, lengths, stop=stop, tol=1e-3, diagnostics=True, **options)
    assert how.iterations.min() < how.iterations.max() < 100
    assert not how.at_ceiling.any()
    for made in how.iterations.unique().tolist():
        fixed, then = token_transport(X, Y, lengths, stop="fixed", max_iter=made, diagnostics=True, **options)
        those = how.iterations == made
        assert torch.equal(fixed[those], value[those])
        assert torch.equal(then.row_error[those], how.row_error[those])
        assert (then.iterations == made).all()


def test_the_ceiling_and_the_row_error():
    value, how = token_transport(X, Y, max_iter=2, tol=1e-6, diagnostics=True)
    plan = token_transport(X, Y, max_iter=2, tol=1e-6, value="plan")
    assert how.at_ceiling.all()
    torch.testing.assert_close(how.row_error, (plan.sum(-1) - 1 / 9).abs().sum(-1))
    assert torch.equal(value, token_transport(X, Y, max_iter=2, tol=1e-6))


def test_a_warning_once_names_the_worst_problem_and_what_helps():
    generator = torch.Generator().manual_seed(0)
    cost = 5 * torch.rand(1, 2, 1, 1, 6, 5, generator=generator)
    with pytest.warns(
        RuntimeWarning, match=r"max_iter 100 iterations at eps 0.001; the worst \(image 0, class"
    ) as seen:
        value, how = token_transport(cost=cost, eps=0.001, diagnostics=True)
    worst = how.row_error.flatten().argmax()
    assert f"class {worst}, image prompt 0, text prompt 0) has {how.row_error.max():.2g} of" in str(
        seen[0].message
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        token_transport(cost=cost, eps=0.001)  # said
        token_transport(cost=cost, eps=0.5)
        token_transport(cost=cost, eps=0.5, max_iter=3, stop="fixed")  # as asked
        better, how = token_transport(cost=cost, eps=0.001, max_iter=20_000, tol=1e-4, diagnostics=True)
    assert how.row_error.max() < 1e-3
    assert (better - value).abs().max() > 1e-2  # it was worth saying


def test_the_prompt_level_warns_too():
    cost = 5 * torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match=r"the worst \(image \d, class \d\) has"):
        prompt_transport(cost, eps=0.001)


@pytest.mark.parametrize(
    "call", [token_plan, functools.partial(token_matches, k=2)], ids=["plans", "matches"]
)
def test_plans_warn_too(call):
    cost = 5 * torch.rand(1, 2, 1, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match="2 problems did not converge"):
        call(cost=cost, eps=0.001)


def test_a_schedule_needs_fewer_iterations_for_the_same_result():
    x, y = X.double(), Y.double()
    options = {"eps": 0.005, "tol": 1e-3, "max_iter": 5000, "diagnostics": True}
    value, how = token_transport(x, y, **options)
    scheduled, then = token_transport(x, y, schedule=(0.5, 0.1, 0.03, 0.01), **options)
    torch.testing.assert_close(scheduled, value, rtol=2e-3, atol=0)
    assert then.iterations.double().mean() < 0.8 * how.iterations.double().mean()
    exact = token_transport(x, y, eps=0.005, tol=1e-12, max_iter=50_000)
    longer = token_transport(x, y, eps=0.005, tol=1e-12, max_iter=50_000, schedule=(0.5, 0.1))
    torch.testing.assert_close(longer, exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("options", [{}, {"eps": 0.02}, {"reach": 0.4}], ids=str)
def test_a_start_from_the_end_is_the_end(options):
    lengths = torch.tensor([[5, 2], [1, 3], [4, 4]])
    options = {"text_lengths": lengths, "tol": 1e-4, "max_iter": 2000, "diagnostics": True, **options}
    value, how = token_transport(X, Y, **options)
    again, then = token_transport(X, Y, start=how.potentials, **options)
    torch.testing.assert_close(again, value, rtol=1e-3, atol=0)
    assert (then.iterations <= 3).all()
    assert (how.potentials[:, 0, :, 1, 2:] == -torch.inf).all()


def test_float64_is_computed_in_float64():
    x, y = X.double().requires_grad_(), Y.double().requires_grad_()
    same = {"stop": "fixed", "max_iter": 30}
    for options in ({}, {"normalize": True}, {"logarithms": False}):
        value = token_transport(x, y, **same, **options)
        gradients = torch.autograd.grad(value.sum(), (x, y))
        assert {t.dtype for t in (value, *gradients)} == {torch.float64}
        single = token_transport(X, Y, **same)
        assert 0 < (single - value).abs().max() < 1e-6
    logarithms, scalings = (token_transport(x, y, logarithms=form) for form in (True, False))
    assert (logarithms - scalings).abs().max() < 1e-14  # and both stop at the same iteration
    cost = 1 - torch.einsum("bmd,cnd->bcmn", x[:, :, 0], y[:, :, 0])
    assert prompt_transport(cost).dtype == torch.float64


def test_given_costs_are_as_good_as_features():
    """With the same masks, lengths and rules, whatever the padding holds."""
    lengths, image_lengths = torch.tensor([5, 2, 1]), torch.tensor([[9, 4], [1, 6]])
    weights = torch.rand(9, generator=torch.Generator().manual_seed(1)) + 0.1
    cost = 1 - torch.einsum("bmpd,cnld->bcmnpl", X, Y)
    cost[:, 1, ..., 2:] = torch.nan
    cost[0, :, 1, :, 4:] = torch.inf
    for rule in ({}, {"stop": "release"}, {"reach": 0.3}, {"eps": 0.02}, {"stop": "fixed", "max_iter": 3}):
        for value in ("cost", "similarity", "plan", "regularised"):
            options = {"text_lengths": lengths, "image_lengths": image_lengths, "image_weights": weights}
            options |= {"value": value, **rule}
            ours = token_transport(cost=cost, **options)
            torch.testing.assert_close(ours, token_transport(X, Y, **options), rtol=1e-4, atol=1e-6)
    g = torch.Generator().manual_seed(2)
    leaf = cost.clone().requires_grad_()
    outer = torch.randn(2, 3, 2, 2, generator=g)
    (gradient,) = torch.autograd.grad(
        (outer * token_transport(cost=leaf, text_lengths=lengths, image_lengths=image_lengths)).sum(), leaf
    )
    plan = token_transport(cost=cost, text_lengths=lengths, image_lengths=image_lengths, value="plan")
    torch.testing.assert_close(gradient, plan * outer[..., None, None])
