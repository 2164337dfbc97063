"""Attention in a forest of texts: each token to its root, and to its own branch, up to itself.

Two forms, for the two arrangements of the tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Groups = tuple[
    tuple[int, int], ...
]  #: (length of a branch, number of branches), in the order in which they stand


def attend_packed(
    q: Tensor, k: Tensor, v: Tensor, groups: Groups, padding: Tensor | None, ends_only: bool = False
) -> Tensor:
    """The attended values, with products for each length of branch.

    The keys of a root are those of all its branches, so they are neither repeated nor padded: the scores come from two
    products, one with the root and one within the branch, that share a softmax. Branches of equal length are one batch.

    Args:
        q, k, v: (R, H, K + T, c): K tokens of each root, then those of its branches.
        groups: how the T tokens fall into branches.
        padding: (R, K) True where a root shorter than K is padded; None if none is.
        ends_only: ask for the last token of each branch alone; q then holds just these.

    Returns:
        (R, H, K + T, c), or (R, H, C, c) if ``ends_only``.
    """
    n_shared = k.shape[2] - sum(length * count for length, count in groups)
    keys, values = (
        part.split([n_shared, *(length * count for length, count in groups)], dim=2) for part in (k, v)
    )
    of_branches = q[
        :, :, q.shape[2] - sum(count if ends_only else length * count for length, count in groups) :
    ]
    of_branches = of_branches * q.shape[-1] ** -0.5
    queries = of_branches.split([count if ends_only else length * count for length, count in groups], dim=2)
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
    if ends_only:
        return torch.cat(attended, dim=2)
    q, k, v = (part[:, :, :n_shared] for part in (q, k, v))
    return torch.cat([F.scaled_dot_product_attention(q, k, v, is_causal=True), *attended], dim=2)


def grove_mask(owner: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T), zero where a token sees another and -inf elsewhere, for torch's attention on rows of groves.

    Args:
        owner: (B, T) whose a token is: 0 the root's, which stands in front and all see; else its owner's alone.
    """
    hidden = (owner[:, None] != 0) & (owner[:, None] != owner[:, :, None])
    hidden = hidden | hidden.new_ones(hidden.shape[1:]).triu(1)
    length = owner.shape[1]
    aligned = -(-length // 16) * 16  # what fused kernels ask of the distance of rows, else they copy the mask
    mask = torch.zeros(*hidden.shape[:2], aligned, dtype=dtype, device=owner.device)[..., :length]
    return mask.masked_fill_(hidden, -torch.inf)[:, None]
