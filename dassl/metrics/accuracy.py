"""Top-k accuracy of a batch."""

from collections.abc import Sequence

import torch


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Share of rows whose label is among the k highest scores.

    Args:
        output: scores (B, C); of a tuple or list, its first entry.
        target: labels (B,).
        topk: the values of k.

    Returns:
        for each k, the accuracy in percent as a tensor of shape (1,).
    """
    scores = output if isinstance(output, torch.Tensor) else output[0]
    ranked = scores.topk(max(topk), dim=1).indices
    hits = ranked.eq(target.view(-1, 1))
    return [hits[:, :k].any(dim=1).float().mean(dim=0, keepdim=True) * 100 for k in topk]
