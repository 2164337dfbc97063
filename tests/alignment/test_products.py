"""The products that the plain solver takes from oneDNN."""

import pytest
import torch

from alignment.products import product, transposed_product


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(
    ("n", "k", "m"), [(7, 5, 3), (1, 5, 3), (7, 1, 3), (7, 5, 1), (1, 1, 1), (64, 512, 198)]
)
def test_products_are_those_of_matrices(n, k, m, onednn):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(n, k, generator=generator), torch.randn(m, k, generator=generator)
    exact = a.double() @ b.double().T
    with torch.backends.mkldnn.flags(enabled=onednn):
        results = product(a, b), transposed_product(a, b.T.contiguous())
    for result in results:
        assert result.is_contiguous()
        torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5 * k**0.5)
