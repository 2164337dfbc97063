"""Partial transport against POT, and what holds of every mass."""

import itertools
import math

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment import prompt_plan, prompt_transport, token_matches, token_plan, token_transport
from alignment.partial import cut_off
from tests.alignment.samples import tokens, weighted

CONVERGED = {"tol": 1e-11, "max_iter": 5000}
LENGTHS, IMAGE_LENGTHS = torch.tensor([4, 2]), torch.tensor([[6, 5]])
SHAPES = (1, 2, 6, 8), (2, 1, 4, 8)


def pot_solution(cost, u, v, eps, mass):
    """Plan and optimum of one problem."""
    u, v = u / u.sum(), v / v.sum()
    numbers = u.numpy(), v.numpy(), cost.numpy()
    plan = ot.partial.entropic_partial_wasserstein(*numbers, eps, mass, numItermax=3000, stopThr=1e-13)
    plan = torch.from_numpy(plan)
    return plan, (plan * cost).sum() + eps * torch.special.xlogy(plan, plan).sum()


def each(x, y):
    """(c, m) and the costs of that problem."""
    for c, m in itertools.product(range(len(y)), range(x.shape[1])):
        yield c, m, 1 - x[0, m, : IMAGE_LENGTHS[0, m]] @ y[c, 0, : LENGTHS[c]].T


@pytest.mark.parametrize(("eps", "mass"), [(0.1, 0.1), (0.1, 0.6), (0.1, 0.95), (0.5, 0.6)])
def test_values_and_plans_are_those_of_pot(eps, mass):
    x, y, u, v = weighted(*SHAPES)
    sides = {"text_lengths": LENGTHS, "image_lengths": IMAGE_LENGTHS, "image_weights": u, "text_weights": v}
    options = {"eps": eps, "mass": mass, **sides, **CONVERGED}
    value, how = token_transport(x, y, value="regularised", diagnostics=True, **options)
    cost, plan = token_transport(x, y, **options), token_plan(x, y, **options)
    for c, m, costs in each(x, y):
        rows, cols = costs.shape
        expected, optimum = pot_solution(costs, u[m, :rows], v[c, 0, :cols], eps, mass)
        torch.testing.assert_close(plan[0, c, m, 0, :rows, :cols], expected, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(value[0, c, m, 0], optimum, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(cost[0, c, m, 0], (expected * costs).sum(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(how.mass, torch.full_like(how.mass, mass))
    torch.testing.assert_close(token_transport(x, y, value="similarity", **options), mass - cost)
    assert (plan[:, 1, ..., 2:] == 0).all()
    assert not how.at_ceiling.any()
    assert (how.row_error < 1e-9).all()
    strongest = token_matches(x, y, k=1, **options).mass.squeeze(-1)
    assert torch.equal(strongest, plan.amax((-2, -1)))


@pytest.mark.parametrize("memory", [2**20, 1], ids=["one block", "many blocks"])
def test_gradients_of_features_weights_and_eps(memory):
    """Of features, they are those of the slope of POT's optimum; where no bound is met the weights have none."""
    x, y, u, v = weighted(*SHAPES)
    eps = torch.tensor(0.1, dtype=torch.float64)

    def optimum(x, y, u, v, eps):
        options = {"text_lengths": LENGTHS, "image_lengths": IMAGE_LENGTHS, "mass": 0.7, "memory": memory}
        options |= {"image_weights": u, "text_weights": v, "value": "regularised", **CONVERGED}
        return token_transport(x, y, eps=eps, **options)

    inputs = [t.clone().requires_grad_() for t in (x, y, u, v, eps)]
    assert torch.autograd.gradcheck(optimum, inputs, atol=1e-6, fast_mode=True)
    gradient, of_weights = torch.autograd.grad(optimum(*inputs).sum(), (inputs[0], inputs[2]))
    assert of_weights.abs().max() > 1e-3
    step = 1e-4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = 0.0
    for sign in (1, -1):
        for c, m, costs in each(x + sign * step, y):
            rows, cols = costs.shape
            slope += sign * pot_solution(costs, u[m, :rows], v[c, 0, :cols], 0.1, 0.7)[1] / 2
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-5, atol=0)
    little = token_transport(x, y, image_weights=inputs[2], mass=0.01, value="regularised")
    assert torch.autograd.grad(little.sum(), inputs[2])[0].abs().max() < 1e-12


def test_gradients_of_costs():
    """Costs of any size and sign."""
    generator = torch.Generator().manual_seed(3)
    cost = 5 * torch.rand(1, 2, 2, 1, 6, 4, generator=generator, dtype=torch.float64) - 2

    def optimum(cost):
        options = {"text_lengths": LENGTHS, "mass": 0.5, "eps": 0.3, "value": "regularised"}
        return token_transport(cost=cost, **options, **CONVERGED)

    assert torch.autograd.gradcheck(optimum, cost.requires_grad_(), atol=1e-6, fast_mode=True)


def test_all_of_the_mass_is_balanced_transport_bit_for_bit():
    x, y, u, _ = weighted(*SHAPES)
    for options in ({}, {"eps": 0.02}, {"value": "regularised"}, {"value": "plan"}, {"stop": "release"}):
        options |= {"text_lengths": LENGTHS, "image_weights": u}
        for sets in ((x, y), (x.float(), y.float())):
            balanced = token_transport(*sets, **options)
            assert torch.equal(token_transport(*sets, mass=1, **options), balanced)
    # The rows of what is converged, and so the values, are the limit of those below.
    fixed = {"stop": "fixed", "max_iter": 300, "value": "regularised"}
    below = token_transport(x, y, mass=1 - 1e-9, **fixed)
    torch.testing.assert_close(below, token_transport(x, y, **fixed), rtol=0, atol=1e-6)


sizes, seeds = st.integers(1, 8), st.integers(0, 10_000)
masses = st.floats(0.01, 0.999)


@settings(max_examples=20)
@given(sizes, sizes, masses, st.sampled_from([0.02, 0.1, 1.0]), seeds)
def test_no_more_is_taken_than_there_is(P, L, mass, eps, seed):
    x, y = tokens(1, 2, P, 8, seed=seed), tokens(2, 1, L, 8, seed=seed + 1)
    u = torch.rand(P, generator=torch.Generator().manual_seed(seed)) + 0.01
    plan = token_plan(x, y, image_weights=u, mass=mass, eps=eps, tol=1e-4, max_iter=2000)
    assert (plan >= 0).all()
    assert (plan.sum(-2) <= 1 / L + 1e-5).all()
    assert (plan.sum(-1) <= u / u.sum() + 1e-3).all()
    torch.testing.assert_close(plan.sum((-2, -1)), torch.full((1, 2, 2, 1), mass), rtol=1e-4, atol=1e-5)


@settings(max_examples=10)
@given(sizes, sizes, seeds)
def test_what_is_moved_costs_more_the_more_it_is(P, L, seed):
    """Of the plan divided by its mass, the optimum grows, whatever the costs are: its bounds become narrower."""
    cost = 2 * torch.rand(1, 1, 1, 1, P, L, generator=torch.Generator().manual_seed(seed)).double() - 1
    before = -math.inf
    for mass in (0.05, 0.3, 0.6, 0.9, 1.0):
        options = {"mass": mass, "value": "regularised", "tol": 1e-9, "max_iter": 5000}
        optimum = token_transport(cost=cost, **options).item() / mass - 0.1 * math.log(mass)
        assert optimum >= before - 1e-7
        before = optimum


def test_little_entropy_gives_the_exact_plan():
    x, y, _, _ = weighted(*SHAPES)
    u, v = torch.full((6,), 1 / 6), torch.full((4,), 1 / 4)
    options = {"mass": 0.5, "eps": 1e-3, "schedule": (0.1, 0.01), "max_iter": 2000, "tol": 1e-6}
    cost = token_transport(x, y, **options)
    for c, m in itertools.product(range(2), range(2)):
        costs = 1 - x[0, m] @ y[c, 0].T
        exact = (ot.partial.partial_wasserstein(u.double(), v.double(), costs, 0.5) * costs).sum()
        torch.testing.assert_close(cost[0, c, m, 0], exact, rtol=0, atol=1e-3)


def test_prompts_and_their_weights_pair_by_pair():
    generator = torch.Generator().manual_seed(5)
    cost = torch.rand(2, 3, 5, 4, generator=generator).double()
    u = torch.rand(2, 3, 5, generator=generator).double() + 0.1
    value, how = prompt_transport(cost, image_weights=u, mass=0.6, diagnostics=True, **CONVERGED)
    uniform = torch.full((4,), 0.25, dtype=torch.float64)
    for b, c in itertools.product(range(2), range(3)):
        plan, _ = pot_solution(cost[b, c], u[b, c], uniform, 0.1, 0.6)
        torch.testing.assert_close(value[b, c], (plan * cost[b, c]).sum(), rtol=1e-7, atol=1e-9)
    assert not how.at_ceiling.any()
    again, then = prompt_plan(
        cost, image_weights=u, mass=0.6, start=how.potentials, diagnostics=True, **CONVERGED
    )
    torch.testing.assert_close((again * cost).sum((-2, -1)), value)
    assert (then.iterations <= 3).all()


def test_the_cut_is_where_the_given_mass_is_left():
    generator = torch.Generator().manual_seed(6)
    bounds = torch.rand(3, 7, generator=generator, dtype=torch.float64)
    bounds[0, 2] = 0
    bounds /= bounds.sum(1, keepdim=True)
    a = torch.rand(3, 7, generator=generator, dtype=torch.float64) * 10.0 ** torch.arange(-3, 4)
    for total in (1e-3, 0.3, 0.8):
        r = cut_off((bounds / a).log(), bounds, total, 1).exp()
        assert ((r * a).sum(1) - total).abs().max() < 1e-12
        torch.testing.assert_close(r, torch.minimum(bounds / a, r.amax(1, keepdim=True)))
