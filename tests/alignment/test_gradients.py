"""Gradients: of the frozen-plan objective, and of the optimal value itself, by finite differences in
float64."""

import ot
import pytest
import torch
import torch.nn.functional as F

from alignment import hierarchical_transport, token_plan, token_transport
from tests.alignment.samples import float64_transport, tokens

LENGTHS = torch.tensor([6, 2, 4, 2, 1])


@pytest.fixture(params=[256 * 2**20, 40_000], ids=["plans kept", "plans computed again"])
def memory(request):
    return request.param


def direction(like, seed):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def difference_quotient(f, x, dx, h=1e-3):
    return (f(x.double() + h * dx) - f(x.double() - h * dx)) / (2 * h)


@pytest.mark.parametrize("stop", ["problem", "release", "fixed"])
def test_gradient_is_that_of_the_frozen_plan_objective(memory, stop):
    x, y = tokens(3, 2, 19, 24, seed=1).requires_grad_(), tokens(5, 3, 6, 24, seed=2).requires_grad_()
    g = torch.randn(3, 5, 2, 3, generator=torch.Generator().manual_seed(3))
    options = {"stop": stop, "memory": memory, "max_iter": 7}
    (token_transport(x, y, LENGTHS, **options) * g).sum().backward()
    plan = token_plan(x, y, LENGTHS, **options).double()

    def objective(x, y):
        return (g * (plan * (1 - torch.einsum("bmpd,cnld->bcmnpl", x, y))).sum((-2, -1))).sum()

    for tensor, f in (
        (x, lambda x: objective(x, y.detach().double())),
        (y, lambda y: objective(x.detach().double(), y)),
    ):
        dx = direction(tensor, 4)
        expected = difference_quotient(f, tensor.detach(), dx)
        torch.testing.assert_close((tensor.grad.double() * dx).sum(), expected, rtol=1e-4, atol=1e-6)


def test_gradient_is_that_of_the_optimal_value():
    """Envelope theorem: the regularised optimum, solved by POT at shifted features, has the same slope."""
    x, y = tokens(1, 1, 8, 12, seed=5).requires_grad_(), tokens(1, 1, 4, 12, seed=6).requires_grad_()
    token_transport(x, y, stop="fixed", max_iter=1000).sum().backward()

    def optimum(x, y, eps=0.1):
        cost = 1 - x[0, 0] @ y[0, 0].T
        u, v = (torch.full((n,), 1 / n, dtype=torch.float64) for n in cost.shape)
        plan = ot.bregman.sinkhorn_log(u, v, cost, eps, numItermax=50000, stopThr=1e-14)
        return (plan * cost).sum() + eps * (plan * plan.log()).sum()

    for tensor, f in (
        (x, lambda x: optimum(x, y.detach().double())),
        (y, lambda y: optimum(x.detach().double(), y)),
    ):
        dx = direction(tensor, 7)
        expected = difference_quotient(f, tensor.detach(), dx)
        torch.testing.assert_close((tensor.grad.double() * dx).sum(), expected, rtol=1e-4, atol=1e-6)


def test_one_side_alone_and_half_precision(memory):
    x, y = tokens(2, 2, 9, 16, seed=8), tokens(5, 2, 6, 16, seed=9)
    both = [x.clone().requires_grad_(), y.clone().requires_grad_()]
    token_transport(*both, LENGTHS, memory=memory).sum().backward()
    for side in (0, 1):
        inputs = [x, y]
        inputs[side] = inputs[side].to(torch.bfloat16).requires_grad_()
        inputs[1 - side] = inputs[1 - side].to(torch.bfloat16)
        token_transport(*inputs, LENGTHS, memory=memory).sum().backward()
        assert inputs[side].grad.dtype == torch.bfloat16
        largest = both[side].grad.abs().max().item()
        torch.testing.assert_close(inputs[side].grad.float(), both[side].grad, rtol=0, atol=2e-2 * largest)


@pytest.mark.parametrize("stop", ["problem", "release"])
def test_gradient_through_the_norms(memory, stop):
    x, y = 3 * tokens(2, 2, 9, 16, seed=8), 0.1 * tokens(5, 2, 6, 16, seed=9)
    results = []
    for inside in (True, False):
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        given = inputs if inside else [F.normalize(t, dim=-1) for t in inputs]
        value = token_transport(*given, LENGTHS, memory=memory, stop=stop, normalize=inside)
        results.append([value, *torch.autograd.grad(value.square().sum(), inputs)])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scaled_features_have_their_own_dtype(dtype):
    """What is multiplied is rounded to it; norms and the gradient through them are fp32."""
    x, y = (3 * tokens(2, 2, 9, 16, seed=8)).to(dtype), (0.1 * tokens(5, 2, 6, 16, seed=9)).to(dtype)
    rounded = [F.normalize(t.float(), dim=-1).to(dtype) for t in (x, y)]
    value = token_transport(x, y, LENGTHS, normalize=True)
    assert torch.equal(value, token_transport(*rounded, LENGTHS))
    grads = []
    for inputs in ([x, y], [x.float(), y.float()]):
        inputs = [t.clone().requires_grad_() for t in inputs]
        value = token_transport(*inputs, LENGTHS, normalize=True)
        grads.append(torch.autograd.grad(value.sum(), inputs))
    for ours, exact in zip(*grads):
        assert ours.dtype == dtype
        assert (ours.float() - exact).abs().max() <= 2e-2 * exact.abs().max()


def test_gradient_twice_through_one_graph(memory):
    x, y = tokens(2, 2, 9, 16, seed=8).requires_grad_(), tokens(5, 2, 6, 16, seed=9)
    value = token_transport(x, y, LENGTHS, memory=memory).sum()
    first, second = (torch.autograd.grad(value, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_paper_variant_reaches_points_and_tokens_release_variant_points_only():
    shapes = [(2, 3, 16), (5, 2, 16), (2, 3, 9, 16), (5, 2, 6, 16)]
    for variant, reached in (("paper", 4), ("release", 2)):
        inputs = [tokens(*s, seed=i).requires_grad_() for i, s in enumerate(shapes)]
        hierarchical_transport(*inputs, LENGTHS, variant=variant).sum().backward()
        assert [t.grad is not None and bool(t.grad.abs().sum() > 0) for t in inputs] == [
            i < reached for i in range(4)
        ]


def test_autocast_does_not_reach_the_transport():
    x, y = tokens(2, 2, 9, 16, seed=8), tokens(5, 2, 6, 16, seed=9)
    points = (x[:, :, 0], y[:, :, 0])
    outside = token_transport(x, y, LENGTHS), hierarchical_transport(*points, x, y, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        inside = token_transport(x, y, LENGTHS), hierarchical_transport(*points, x, y, LENGTHS)
    for a, b in zip(outside, inside):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("dtype", "value_error", "gradient_error"),
    [(torch.float32, 1e-5, 1e-4), (torch.bfloat16, 1e-2, 1e-2), (torch.float16, 1e-2, 1e-2)],
)
def test_errors_at_the_size_of_vit_b_16(memory, dtype, value_error, gradient_error):
    """Against float64 from features that are not rounded."""
    x, y, lengths = tokens(2, 2, 198, 512, seed=10), tokens(3, 2, 12, 512, seed=11), torch.tensor([12, 5, 8])
    inputs = [t.to(dtype).requires_grad_() for t in (x, y)]
    value = token_transport(*inputs, lengths, stop="fixed", max_iter=20, memory=20 * memory)
    value.sum().backward()
    costs, *gradients = float64_transport(x, y, lengths.tolist(), 20)
    torch.testing.assert_close(value.double(), costs, rtol=value_error, atol=0)
    for ours, exact in zip(inputs, gradients):
        assert (ours.grad.double() - exact).abs().max() <= gradient_error * exact.abs().max()


def test_plain_under_torch_compile():
    x, y = tokens(2, 3, 17, 32, seed=1), tokens(5, 4, 6, 32, seed=2)

    def gradients(function):
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        value = function(*inputs, torch.tensor([6, 3, 4, 1, 6]), implementation="plain").sum()
        return value, *torch.autograd.grad(value, inputs)

    torch._dynamo.reset()
    compiled = torch.compile(token_transport, backend="aot_eager")
    for ours, eager in zip(gradients(compiled), gradients(token_transport)):
        torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-6)
