"""Attention of the branches of a forest of texts: each token to its root, and to its own branch up to itself.

The keys of a root are those of all its branches, so they are neither repeated nor padded: the scores come from two
products, one with the root and one within the branch, that share a softmax. Branches of equal length are one batch.
"""

import torch
from torch import Tensor

Groups = tuple[
    tuple[int, int], ...
]  #: (length of a branch, number of branches), in the order in which they stand


def attend(
    q: Tensor, k: Tensor, v: Tensor, groups: Groups, padding: Tensor | None, ends_only: bool = False
) -> Tensor:
    """The attended values of the branches' tokens.

    Args:
        q, k, v: (R, H, K + T, c): K tokens of each root, then those of its branches.
        groups: how the T tokens fall into branches.
        padding: (R, K) True where a root shorter than K is padded; None if none is.
        ends_only: ask for the last token of each branch alone; q then holds just these behind the roots'.

    Returns:
        (R, H, T, c), or (R, H, C, c) if ``ends_only``.
    """
    n_shared = k.shape[2] - sum(length * count for length, count in groups)
    keys, values = (
        part.split([n_shared, *(length * count for length, count in groups)], dim=2) for part in (k, v)
    )
    q = q[:, :, q.shape[2] - sum(count if ends_only else length * count for length, count in groups) :]
    q = q * q.shape[-1] ** -0.5
    queries = q.split([count if ends_only else length * count for length, count in groups], dim=2)
    attended = []
    for (length, count), query, key, value in zip(groups, queries, keys[1:], values[1:], strict=True):
        own_query, own_key, own_value = (part.unflatten(2, (count, -1)) for part in (query, key, value))
        to_root = (query @ keys[0].transpose(-1, -2)).unflatten(2, (count, -1))
        if padding is not None:
            to_root = to_root.masked_fill(padding[:, None, None, None], -torch.inf)
        to_own = own_query @ own_key.transpose(-1, -2)
        if not ends_only:
            ahead = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
            to_own = to_own.masked_fill(ahead, -torch.inf)
        shares = torch.cat([to_root, to_own], dim=-1).softmax(dim=-1)
        # not split(): of its gradient and the softmax's, torch 2.15 compiles wrong code for CPUs
        of_root, of_own = shares[..., :n_shared], shares[..., n_shared:]
        attended.append(of_root.flatten(2, 3) @ values[0] + (of_own @ own_value).flatten(2, 3))
    return torch.cat(attended, dim=2)
