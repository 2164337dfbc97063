"""oneDNN's layer is the linear layer, and so is its gradient, in fp32 and where 16 bits are imitated."""

import pytest
import torch
import torch.nn.functional as F

from clip import linear as module
from clip.linear import attend, linear


@pytest.fixture
def calls(monkeypatch):
    """Shapes of what goes to oneDNN."""
    shapes, product = [], module._product
    monkeypatch.setattr(
        module, "_product", lambda x, *rest: shapes.append(tuple(x.shape)) or product(x, *rest)
    )
    return shapes


@pytest.mark.parametrize("shape", [(64, 24), (3, 40, 24), (2, 1, 50, 24)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_output_and_gradient(shape, with_bias, calls):
    x = torch.randn(shape).requires_grad_()
    weight, bias = torch.randn(32, 24), torch.randn(32) if with_bias else None
    direction = torch.randn(*shape[:-1], 32)
    results = []
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled):
            out = linear(x, weight, bias)
            results.append((out.detach(), *torch.autograd.grad(out, x, direction)))
    assert calls == [shape, direction.shape]  # the first time alone, forward and backward
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(results[0][0].double(), exact, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture
def imitated(monkeypatch):
    """No processor has instructions for 16 bits."""
    monkeypatch.setattr(module, "is_imitated", HALVES.__contains__)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_products_of_16_bits_are_rounded_once(with_bias, dtype, autocast, calls, imitated):
    weight, bias = torch.randn(32, 24).to(dtype), torch.randn(32).to(dtype) if with_bias else None
    x = torch.randn(5, 24).to(torch.float32 if autocast else dtype).requires_grad_()
    direction = torch.randn(5, 32).to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        out = linear(x, weight, bias)
    (gradient,) = torch.autograd.grad(out, x, direction)
    assert (out.dtype, gradient.dtype) == (dtype, x.dtype)
    assert calls == [x.shape, direction.shape]
    exact = F.linear(x.to(dtype).double(), weight.double(), None if bias is None else bias.double())
    half = 0.51 * torch.finfo(dtype).eps  # of the value at most
    torch.testing.assert_close(out.double(), exact, rtol=half, atol=1e-5)
    exact = direction.double() @ weight.double()
    torch.testing.assert_close(gradient.double(), exact, rtol=half, atol=1e-5)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", HALVES)
def test_attention_in_16_bits_is_rounded_once(dtype, autocast, imitated):
    q, k, v = (torch.randn(2, 2, 5, 8).to(dtype).requires_grad_() for _ in range(3))
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        out = attend(F.scaled_dot_product_attention, q, k, v)
    out.float().square().sum().backward()
    assert out.dtype == q.grad.dtype == dtype
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(out.double(), exact, rtol=0.51 * torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_processor_with_16_bits_multiplies_them_itself(dtype, calls, monkeypatch):
    monkeypatch.setattr(module, "is_imitated", lambda dtype: False)
    x, weight = torch.randn(80, 24).to(dtype), torch.randn(32, 24).to(dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    q = torch.randn(2, 2, 5, 8).to(dtype)
    given = attend(lambda *parts: [part.dtype for part in parts], q, q, q)
    assert given == [dtype] * 3
    assert not calls


def test_a_strided_gradient(calls):
    """As it comes from a transposed or expanded result."""
    x, weight = torch.randn(80, 24).requires_grad_(), torch.randn(32, 24)
    linear(x, weight).T.sum(dim=0).expand(5, -1).sum().backward()
    torch.testing.assert_close(x.grad, 5 * weight.sum(dim=0).expand(80, -1))
    assert calls


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.randn(8, 24), torch.randn(32, 24)),  # few rows
        (torch.randn(80, 24).double(), torch.randn(32, 24).double()),
        (torch.randn(80, 24), torch.randn(32, 24).requires_grad_()),  # it is learned
        (torch.randn(80, 24).half(), torch.randn(32, 24).half().requires_grad_()),
    ],
)
def test_what_does_not_suit_goes_torchs_own_way(x, weight, calls, imitated):
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    assert not calls


def test_autocast_decides_the_precision(calls, imitated):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(80, 24), torch.randn(32, 24)).dtype == torch.bfloat16
    assert not calls
