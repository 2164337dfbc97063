"""oneDNN's layer is the linear layer, and so is its gradient."""

import pytest
import torch
import torch.nn.functional as F

from clip import linear as module
from clip.linear import linear


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
    ],
)
def test_what_does_not_suit_goes_torchs_own_way(x, weight, calls):
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    assert not calls


def test_autocast_decides_the_precision(calls):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(80, 24), torch.randn(32, 24)).dtype == torch.bfloat16
    assert not calls
