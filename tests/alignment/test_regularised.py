"""The regularised optimum against POT, and all its gradients against finite differences; both in float64."""

import math

import ot
import pytest
import torch

from alignment import token_plan, token_transport
from tests.alignment.samples import weighted

CONVERGED = {"stop": "problem", "tol": 1e-13, "max_iter": 5000}
REACHES = [math.inf, 0.4, (math.inf, 0.3), (0.3, math.inf)]
LENGTHS, IMAGE_LENGTHS = torch.tensor([3, 2]), torch.tensor([5])
SHAPES = (1, 2, 5, 6), (2, 1, 3, 6)


def pot_solution(cost, u, v, eps, reach):
    """Plan and optimum of one problem."""
    u, v = u / u.sum(), v / v.sum()
    if reach == (math.inf, math.inf):
        plan = ot.bregman.sinkhorn_log(u, v, cost, eps, numItermax=50000, stopThr=1e-15)
        return plan, (plan * cost).sum() + eps * torch.special.xlogy(plan, plan).sum()
    plan, log = ot.unbalanced.sinkhorn_unbalanced(
        u, v, cost, eps, reach, numItermax=50000, stopThr=1e-15, log=True
    )
    # POT's Kullback-Leibler divergences lack their mass terms, and ours are above the marginals' entropies.
    lacking = (eps + sum(rho for rho in reach if rho < math.inf)) * (1 - plan.sum())
    entropies = sum(torch.special.entr(mass).sum() for mass in (u, v))
    return plan, log["total_cost"] + lacking - eps * entropies


@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("eps", [0.02, 0.1, 0.5])
def test_values_plans_and_masses_are_those_of_pot(eps, reach):
    x, y, u, v = weighted(*SHAPES)
    options = {"image_weights": u, "text_weights": v, "text_lengths": LENGTHS, "eps": eps, "reach": reach}
    value, how = token_transport(x, y, value="regularised", diagnostics=True, **options, **CONVERGED)
    cost = token_transport(x, y, **options, **CONVERGED)
    similarity = token_transport(x, y, value="similarity", **options, **CONVERGED)
    plan = token_plan(x, y, **options, **CONVERGED)
    both = reach if isinstance(reach, tuple) else (reach, reach)
    for m in range(2):
        for c, length in enumerate(LENGTHS):
            costs = 1 - x[0, m] @ y[c, 0, :length].T
            expected, optimum = pot_solution(costs, u[m], v[c, 0, :length], eps, both)
            torch.testing.assert_close(value[0, c, m, 0], optimum, rtol=1e-8, atol=1e-9)
            torch.testing.assert_close(plan[0, c, m, 0, :, :length], expected, rtol=1e-6, atol=1e-10)
            torch.testing.assert_close(cost[0, c, m, 0], (expected * costs).sum(), rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(how.mass[0, c, m, 0], expected.sum(), rtol=1e-7, atol=0)
    torch.testing.assert_close(similarity, how.mass - cost)
    assert (plan[0, 1, ..., 2:] == 0).all()
    assert not how.at_ceiling.any()
    assert (how.row_error < 1e-9).all()


@pytest.mark.parametrize("memory", [2**20, 1], ids=["one block", "many blocks"])
@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_of_features_weights_and_eps(reach, normalize, memory):
    x, y, u, v = weighted(*SHAPES)
    eps = torch.tensor(0.1, dtype=torch.float64)

    def optimum(x, y, u, v, eps):
        options = {"image_lengths": IMAGE_LENGTHS, "text_lengths": LENGTHS, "reach": reach, "memory": memory}
        options |= {"image_weights": u, "text_weights": v, "normalize": normalize, "value": "regularised"}
        return token_transport(x, y, eps=eps, **options, **CONVERGED)

    inputs = [t.clone().requires_grad_() for t in (x, y, u, v, eps)]
    assert torch.autograd.gradcheck(optimum, inputs, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("reach", [math.inf, (0.3, 0.5)], ids=str)
def test_gradients_of_costs(reach):
    """Costs of any size and sign."""
    generator = torch.Generator().manual_seed(3)
    cost = 5 * torch.rand(1, 2, 2, 1, 4, 3, generator=generator, dtype=torch.float64) - 2

    def optimum(cost):
        options = {"text_lengths": LENGTHS, "reach": reach, "eps": 0.3, "value": "regularised"}
        return token_transport(cost=cost, **options, **CONVERGED)

    assert torch.autograd.gradcheck(optimum, cost.requires_grad_(), atol=1e-6, fast_mode=True)


def test_the_gradient_of_weights_is_that_of_the_potentials():
    """eps log r and eps log c, centred; the dual of POT."""
    x, y, u, v = weighted(*SHAPES)
    u, v = (u[:1] / u[:1].sum()).requires_grad_(), (v[:1] / v[:1].sum()).requires_grad_()
    options = {"image_weights": u, "text_weights": v, "value": "regularised", **CONVERGED}
    value = token_transport(x[:, :1], y[:1], **options)
    gradients = torch.autograd.grad(value.sum(), (u, v))
    cost = 1 - x[0, 0] @ y[0, 0].T
    masses = u.detach()[0], v.detach()[0, 0]
    _, log = ot.bregman.sinkhorn_log(*masses, cost, 0.1, 50000, stopThr=1e-15, log=True)
    for ours, potential, mass in zip(gradients, (log["log_u"], log["log_v"]), masses):
        expected = 0.1 * (potential - (mass * potential).sum())
        torch.testing.assert_close(ours.flatten(), expected, rtol=1e-6, atol=1e-9)


def test_the_cost_leaves_out_the_derivative_through_the_plan():
    """Its gradient of features is the optimum's, and it has none of weights."""
    x, y, u, _ = weighted(*SHAPES)
    leaves = [t.clone().requires_grad_() for t in (x, y, u)]
    gradients = [
        torch.autograd.grad(
            token_transport(*leaves[:2], image_weights=leaves[2], value=value).sum(),
            leaves,
            allow_unused=True,
        )
        for value in ("cost", "regularised")
    ]
    for of_cost, of_optimum in zip(*(g[:2] for g in gradients)):
        assert torch.equal(of_cost, of_optimum)
    assert gradients[0][2] is None or (gradients[0][2] == 0).all()


def test_weights_of_zero_have_no_gradient():
    x, y, u, v = weighted(*SHAPES)
    u[:, 1] = v[:, :, 2] = 0
    for reach in REACHES:
        leaves = [u.clone().requires_grad_(), v.clone().requires_grad_()]
        options = {"image_weights": leaves[0], "text_weights": leaves[1], "reach": reach}
        value = token_transport(x, y, value="regularised", **options)
        for weights, gradient in zip(leaves, torch.autograd.grad(value.sum(), leaves)):
            assert torch.isfinite(gradient).all()
            assert (gradient * weights).sum().abs() < 1e-12  # scaling all changes nothing
