"""The fused transport on a real device: the cases that the interpreter runs, and what only a device can show."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from alignment import hierarchical_transport, token_transport
from tests.alignment.fused_cases import *  # noqa: F403
from tests.alignment.fused_prompt_cases import *  # noqa: F403
from tests.alignment.samples import float64_transport, tokens


@pytest.fixture
def device():
    return "cuda"


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


def test_memory_stays_within_the_budget():
    x = tokens(16, 4, 198, 512, seed=4).cuda().bfloat16().requires_grad_()
    y = tokens(500, 4, 8, 512, seed=5).cuda().bfloat16().requires_grad_()
    problems = 16 * 4 * 500 * 4
    memory, cost_matrices = 64 * 2**20, problems * 198 * 8 * 4
    assert cost_matrices > 10 * memory
    features = x.numel() + y.numel()
    # Similarities, costs and their gradient, the column scalings; of the features the gradients, in bf16 and fp32, and
    # a product that is added to these.
    beside = problems * 4 * (4 + 8) + features * (2 + 2 * 4 + 2 * 2)
    token_transport(x[:1], y[:2], implementation="fused").sum().backward()
    x.grad = y.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    token_transport(x, y, implementation="fused", memory=memory).sum().backward()
    extra = torch.cuda.max_memory_allocated() - before
    assert extra <= memory + beside + 2 * 2**20


def test_another_budget_is_another_order_of_sums(large):
    x, y, lengths = large
    results = []
    for memory in (2**30, 2**22):
        inputs = [t.cuda().bfloat16().requires_grad_() for t in (x, y)]
        value = token_transport(*inputs, lengths.cuda(), memory=memory)
        value.sum().backward()
        results.append([value.detach(), *(t.grad.float() for t in inputs)])
    torch.testing.assert_close(*(values[0] for values in results), rtol=1e-3, atol=1e-5)
    for a, b in zip(results[0][1:], results[1][1:]):
        assert (a - b).abs().max() <= 1e-2 * a.abs().max()


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_no_synchronisation(large, variant):
    x, y, lengths = large
    x, y, lengths = x.cuda().bfloat16().requires_grad_(), y.cuda().bfloat16().requires_grad_(), lengths.cuda()
    points = [t.detach()[:, :, 0].clone().requires_grad_() for t in (x, y)]

    def step():
        hierarchical_transport(*points, x, y, lengths, variant=variant, normalize=True).sum().backward()
        hierarchical_transport(*points, variant=variant, normalize=True).sum().backward()

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_lengths_from_the_cpu_do_not_wait_either(large):
    x, y, lengths = large
    x, y = x.cuda(), y.cuda()
    expected = token_transport(x, y, lengths.cuda())
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert token_transport(x, y, lengths).shape == expected.shape
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(token_transport(x, y, lengths), expected)


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_captured_in_a_graph(large, variant):
    x, y, lengths = large
    inputs = [t.cuda().bfloat16().requires_grad_() for t in (x[:, :, 0], y[:, :, 0], x, y)]
    lengths = lengths.cuda()

    def step():
        value = hierarchical_transport(*inputs, lengths, variant=variant, normalize=True)
        return [value, *torch.autograd.grad(value.sum(), inputs[:2])]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = step()
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    for ours, eager in zip(captured, expected, strict=True):
        torch.testing.assert_close(ours, eager)


def test_lengths_on_the_cpu_are_refused_in_a_capture(large):
    x, y, lengths = large
    x, y = x.cuda(), y.cuda()
    token_transport(x, y, lengths)
    with pytest.raises(ValueError, match="move them to cuda"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        token_transport(x, y, lengths)


@pytest.mark.parametrize("wrong", [{"text_lengths": [8, 0]}, {"text_weights": [[0.0] * 8]}])
def test_values_on_the_device_are_looked_at_on_request(wrong):
    x, y = tokens(1, 1, 5, 16, seed=1).cuda(), tokens(2, 1, 8, 16, seed=2).cuda()
    [name] = wrong
    with pytest.raises(ValueError, match=name):
        token_transport(x, y, **{name: torch.tensor(wrong[name]).cuda()}, check_finite=True)
