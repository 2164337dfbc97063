import pytest
import torch

from dassl.metrics import (
    compute_accuracy,
    compute_distance_matrix,
    cosine_distance,
    euclidean_squared_distance,
)


def test_accuracy():
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    labels = torch.tensor([0, 2, 2, 2])
    top1, top2 = compute_accuracy(scores, labels, topk=(1, 2))
    assert top1.item() == 50
    assert top2.item() == 75
    assert top1.shape == (1,)
    assert compute_accuracy((scores, None), labels)[0].item() == 50


def test_distances_agree_with_their_definitions():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 7, generator=generator), torch.randn(4, 7, generator=generator)
    assert torch.allclose(compute_distance_matrix(x, y), torch.cdist(x, y) ** 2, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=2)
    assert torch.allclose(compute_distance_matrix(x, y, "cosine"), 1 - cosine, atol=1e-6)
    assert euclidean_squared_distance(x, y).shape == cosine_distance(x, y).shape == (5, 4)


def test_what_does_not_fit_is_named():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match='unknown metric "manhattan"'):
        compute_distance_matrix(x, x, "manhattan")
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        compute_distance_matrix(x, torch.zeros(2, 4))
