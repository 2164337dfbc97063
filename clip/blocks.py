"""One transformer block of CLIP, in two halves, on open_clip's own weights.

Both towers run blocks through these functions, so that a tower can decide between the halves which
positions attend to which, and which positions the rest of the network still needs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from .precision import SLOPE
from .weights import BlockWeights, Layer, affine


def require_plain(blocks: Any, tower: str) -> None:
    """Raise ValueError unless every block is CLIP's own kind: pre-norm, one fused attention, one MLP."""
    for block in blocks:
        plain = isinstance(block, ResidualAttentionBlock) and isinstance(block.attn, nn.MultiheadAttention)
        if not plain or hasattr(block, "ln_1_kv"):
            raise ValueError(
                f"{tower}: blocks of type {type(block).__name__} are not CLIP's plain ones, cannot be prompted"
            )


def layer_norm(x: Tensor, norm: Any, dtype: torch.dtype | None = None) -> Tensor:
    """LayerNorm in fp32 whatever the tower runs in; the result has ``dtype``, or that of ``x``."""
    dtype = dtype or x.dtype
    if isinstance(norm, nn.Identity):
        return x.to(dtype)
    return F.layer_norm(x.float(), norm.weight.shape, norm.weight, norm.bias, norm.eps).to(dtype)


def project(weights: BlockWeights, x: Tensor) -> Tensor:
    """First half: queries, keys and values of x (B, T, w) side by side, (B, T, 3 w)."""
    return affine(weights.qkv, layer_norm(x, weights.ln_1, weights.qkv.weight.dtype))


def heads(block: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The queries, keys and values in (B, T, 3 w), each (B, H, T, w / H): views, whose gradients are joined by one
    copy.
    """
    q, k, v = (
        part.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
    )
    return q, k, v


def side_by_side(attended: Tensor) -> Tensor:
    """Values of all heads (B, H, T, w / H) -> (B, T, w); a view of what torch's attention returns."""
    return attended.transpose(1, 2).flatten(2)


def finish(block: Any, weights: BlockWeights, x: Tensor, attended: Tensor) -> Tensor:
    """Second half: x (B, T, w) and the attended values (B, T, w) of the same positions -> (B, T, w)."""
    x = x + block.ls_1(affine(weights.o, attended))
    inner = layer_norm(x, weights.ln_2, weights.o.weight.dtype)
    return x + block.ls_2(_feed_forward(block.mlp[1], weights, inner))


def _feed_forward(activation: nn.Module, weights: BlockWeights, x: Tensor) -> Tensor:
    """OpenAI's activation, x sigmoid(s x), is silu(s x) / s: one pass over the wide layer instead of three, of which
    only the input is kept for the gradient. The factors go to where the layer is narrow; in lower precision they stand
    in the weights (see ``precision``).
    """
    widen, narrow = weights.fc, weights.proj
    if not isinstance(activation, QuickGELU):
        return affine(narrow, activation(affine(widen, x)))
    assert widen.bias is not None
    assert narrow.bias is not None
    hidden = F.silu(affine(Layer(widen.weight, widen.bias * SLOPE, widen.added), x * SLOPE))
    return torch.add(narrow.bias, affine(Layer(narrow.weight, None, narrow.added), hidden), alpha=1 / SLOPE)


def replace_tokens(x: Tensor, fresh: Tensor, start: int, kept: float = 0.0) -> Tensor:
    """x (A, B, T, w) with fresh (A or 1, B or 1, n, w) in place of the tokens ``start`` .. ``start + n``, of which the
    share ``kept`` stays.
    """
    end = start + fresh.shape[2]
    fresh = fresh.to(x.dtype)
    if kept:
        fresh = (1 - kept) * fresh + kept * x[:, :, start:end]
    return x.slice_scatter(fresh.expand(*x.shape[:2], -1, -1), dim=2, start=start, end=end)


def insert_tokens(x: Tensor, fresh: Tensor, start: int) -> Tensor:
    """x (A, B, T, w) with fresh (A or 1, B or 1, n, w) in front of the token ``start``."""
    fresh = fresh.to(x.dtype).expand(*x.shape[:2], -1, -1)
    return torch.cat([x[:, :, :start], fresh, x[:, :, start:]], dim=2)
