"""The fused transport on a real device: the cases that the interpreter runs, and what only a device can show."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from alignment import token_transport
from tests.alignment.fused_cases import *  # noqa: F403
from tests.alignment.samples import float64_transport, tokens


@pytest.fixture
def large():
    """4 images x 4 prompts against 100 classes x 4 prompts of ragged length: one training step of MMTPA."""
    x, y = tokens(4, 4, 198, 512, seed=1), tokens(100, 4, 12, 512, seed=2)
    lengths = torch.randint(4, 13, (100,), generator=torch.Generator().manual_seed(3))
    return x, y, lengths


@pytest.mark.parametrize(
    ("dtype", "value_error", "gradient_error"),
    [(torch.float32, 1e-5, 1e-4), (torch.bfloat16, 1e-2, 1e-2), (torch.float16, 1e-2, 1e-2)],
)
def test_training_size_against_float64(large, dtype, value_error, gradient_error):
    """Plans of 20 iterations in float64, from the features as they are before rounding."""
    x, y, lengths = large
    inputs = [t.cuda().to(dtype).requires_grad_() for t in (x, y)]
    value = token_transport(*inputs, lengths, implementation="fused", stop="fixed", max_iter=20)
    value.sum().backward()
    costs, *gradients = float64_transport(x.cuda(), y.cuda(), lengths.tolist(), 20)
    torch.testing.assert_close(value.double(), costs, rtol=value_error, atol=0)
    for ours, exact in zip(inputs, gradients):
        assert (ours.grad.double() - exact).abs().max() <= gradient_error * exact.abs().max()


def test_twice_the_same_bits(large):
    x, y, lengths = large
    runs = []
    for _ in range(2):
        inputs = [t.cuda().bfloat16().requires_grad_() for t in (x, y)]
        value = token_transport(*inputs, lengths, implementation="fused")
        value.sum().backward()
        runs.append([value, *(t.grad for t in inputs)])
    assert all(torch.equal(a, b) for a, b in zip(*runs))


def test_no_cost_matrix_in_memory():
    x = tokens(16, 4, 198, 512, seed=4).cuda().bfloat16().requires_grad_()
    y = tokens(500, 4, 8, 512, seed=5).cuda().bfloat16().requires_grad_()
    problems = 16 * 4 * 500 * 4
    cost_matrices = problems * 198 * 8 * 4
    result_and_gradients = problems * 4 * 2 + (x.numel() + y.numel()) * 2
    token_transport(x[:1], y[:2], implementation="fused").sum().backward()
    x.grad = y.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    token_transport(x, y, implementation="fused").sum().backward()
    extra = torch.cuda.max_memory_allocated() - before - result_and_gradients
    assert extra <= 0.05 * cost_matrices


def test_no_synchronisation(large):
    x, y, _ = large
    x, y = x.cuda().requires_grad_(), y.cuda().requires_grad_()
    token_transport(x, y).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        token_transport(x, y).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("wrong", [{"text_lengths": [8, 0]}, {"text_weights": [[0.0] * 8]}])
def test_values_on_the_device_are_looked_at_on_request(wrong):
    x, y = tokens(1, 1, 5, 16, seed=1).cuda(), tokens(2, 1, 8, 16, seed=2).cuda()
    [name] = wrong
    with pytest.raises(ValueError, match=name):
        token_transport(x, y, **{name: torch.tensor(wrong[name]).cuda()}, check_finite=True)
