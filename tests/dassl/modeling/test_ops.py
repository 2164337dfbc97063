import torch

from dassl.modeling.ops.utils import create_onehot, sharpen_prob


def test_onehot():
    assert create_onehot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert create_onehot(torch.tensor([1], dtype=torch.int32), 2).dtype == torch.float32


def test_sharpened_probabilities_are_probabilities_nearer_to_the_largest():
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    sharp = sharpen_prob(p)
    assert torch.allclose(sharp.sum(1), torch.ones(2))
    assert torch.allclose(sharp[0], torch.tensor([36.0, 9.0, 1.0]) / 46)
    assert (sharp.amax(1) > p.amax(1)).all()
    assert torch.equal(sharpen_prob(p, temperature=1).argmax(1), p.argmax(1))
