"""Distances between all rows of two feature matrices."""

import torch
from torch.nn import functional


def compute_distance_matrix(
    input1: torch.Tensor, input2: torch.Tensor, metric: str = "euclidean"
) -> torch.Tensor:
    """Distances between the rows of ``input1`` (n, d) and those of ``input2`` (m, d), as (n, m).

    Args:
        metric: "euclidean" (squared) or "cosine".

    Raises:
        ValueError: the shapes do not fit, or the metric is unknown.
    """
    if input1.dim() != 2 or input2.dim() != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(
            f"expected (n, d) and (m, d) features, got {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    if metric == "euclidean":
        return euclidean_squared_distance(input1, input2)
    if metric == "cosine":
        return cosine_distance(input1, input2)
    raise ValueError(f'unknown metric "{metric}": choose "euclidean" or "cosine"')


def euclidean_squared_distance(input1: torch.Tensor, input2: torch.Tensor) -> torch.Tensor:
    """|x - y|^2 for all rows x of (n, d) and y of (m, d), as (n, m).

    Computed as |x|^2 + |y|^2 - 2 xy, so that nothing of size n x m x d is made.
    """
    squares1 = input1.square().sum(dim=1, keepdim=True)
    squares2 = input2.square().sum(dim=1)
    return squares1 + squares2 - 2 * input1 @ input2.t()


def cosine_distance(input1: torch.Tensor, input2: torch.Tensor) -> torch.Tensor:
    """1 - cos(x, y) for all rows x of (n, d) and y of (m, d), as (n, m)."""
    return 1 - functional.normalize(input1, dim=1) @ functional.normalize(input2, dim=1).t()
