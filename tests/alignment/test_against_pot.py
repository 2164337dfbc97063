"""The plain solver against an independent one: POT in float64 on logarithms."""

import ot
import pytest
import torch

from alignment import prompt_transport, token_transport
from tests.alignment.samples import tokens


def pot_cost(x, y, eps, u=None, v=None):
    """<T*, 1 - x y'> of one converged problem."""
    cost = 1 - x.double() @ y.double().T
    u = torch.full((len(x),), 1 / len(x), dtype=torch.float64) if u is None else u.double() / u.double().sum()
    v = torch.full((len(y),), 1 / len(y), dtype=torch.float64) if v is None else v.double() / v.double().sum()
    plan = ot.bregman.sinkhorn_log(u, v, cost, eps, numItermax=20000, stopThr=1e-13)
    return (plan * cost).sum()


@pytest.mark.parametrize("eps", [0.02, 0.06, 0.1, 1.0])
def test_converged_costs(eps):
    x, y = tokens(2, 2, 23, 48, seed=1), tokens(3, 2, 7, 48, seed=2)
    lengths, image_lengths = torch.tensor([7, 1, 4]), torch.tensor([23, 6])
    iterations = 3000 if eps < 0.05 else 300
    cost = token_transport(
        x, y, lengths, image_lengths=image_lengths, eps=eps, stop="fixed", max_iter=iterations
    )
    for b, c, m, n in torch.cartesian_prod(*map(torch.arange, cost.shape)):
        expected = pot_cost(x[b, m, : image_lengths[b]], y[c, n, : lengths[c]], eps)
        torch.testing.assert_close(cost[b, c, m, n].double(), expected, rtol=1e-5, atol=0)


def test_lengths_of_every_prompt_and_weights():
    x, y = tokens(2, 2, 9, 16, seed=3), tokens(2, 3, 6, 16, seed=4)
    lengths = torch.tensor([[6, 2, 3], [1, 5, 5]])
    generator = torch.Generator().manual_seed(5)
    u, v = torch.rand(2, 2, 9, generator=generator), torch.rand(6, generator=generator)
    u[0, 0, 3] = v[0] = 0.0
    lengths[1, 0] = 2  # the first token of every prompt carries no mass
    cost = token_transport(x, y, lengths, image_weights=u, text_weights=v, stop="fixed", max_iter=500)
    for b, c, m, n in torch.cartesian_prod(*map(torch.arange, cost.shape)):
        k, rows = lengths[c, n], u[b, m] > 0
        expected = pot_cost(x[b, m][rows], y[c, n, 1:k], 0.1, u[b, m][rows], v[1:k])
        torch.testing.assert_close(cost[b, c, m, n].double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_half_precision_features(dtype, tolerance):
    """What is lost is the rounding of the features; the transport itself is in fp32."""
    x, y = tokens(2, 1, 30, 64, seed=6), tokens(2, 2, 5, 64, seed=7)
    fixed = {"stop": "fixed", "max_iter": 100}
    exact = token_transport(x, y, **fixed)
    rounded = token_transport(x.to(dtype), y.to(dtype), **fixed)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=tolerance, atol=0)
    torch.testing.assert_close(rounded, token_transport(x.to(dtype).float(), y.to(dtype).float(), **fixed))


def test_prompt_level():
    cost = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(8))
    value = prompt_transport(cost, stop="fixed", max_iter=2000)
    for b, c in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        exact = cost[b, c].double()
        plan = ot.bregman.sinkhorn_log(ot.unif(5, exact), ot.unif(4, exact), exact, 0.1, 20000, stopThr=1e-13)
        torch.testing.assert_close(value[b, c].double(), (plan * exact).sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("eps", [0.04, 0.1])
@pytest.mark.parametrize("max_iter", [1, 2])
def test_padding_and_massless_tokens_take_no_part_from_the_first_iteration_on(eps, max_iter):
    x, y = tokens(1, 1, 9, 16, seed=9), tokens(1, 3, 6, 16, seed=10)
    lengths = torch.tensor([[6, 2, 5]])
    weights = torch.ones(6)
    weights[1] = 0
    fixed = {"eps": eps, "stop": "fixed", "max_iter": max_iter}
    together = token_transport(x, y, lengths, text_weights=weights, **fixed)
    for n, length in enumerate(lengths[0].tolist()):
        rest = [0, *range(2, length)]
        alone = token_transport(x, y[:, n : n + 1, rest], **fixed)
        torch.testing.assert_close(together[0, 0, 0, n], alone[0, 0, 0, 0], rtol=1e-5, atol=0)
