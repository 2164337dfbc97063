import torch

from dassl.metrics import compute_accuracy


def test_accuracy():
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    labels = torch.tensor([0, 2, 2, 2])
    top1, top2 = compute_accuracy(scores, labels, topk=(1, 2))
    assert top1.item() == 50
    assert top2.item() == 75
    assert top1.shape == (1,)
    assert compute_accuracy((scores, None), labels)[0].item() == 50
