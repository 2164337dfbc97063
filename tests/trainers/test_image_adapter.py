import pytest
import torch

from trainers.image_adapter import ImageAdapter


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 7, 10)])
def test_products_of_matrices_pass_what_the_fourier_transform_passes(shape):
    images = torch.randn(shape)
    adapter = ImageAdapter(sigma=0.1, alpha=0.3)
    assert torch.allclose(adapter._by_products(images), adapter(images), atol=1e-5)
    assert not torch.allclose(adapter(images), images, atol=1e-2)
