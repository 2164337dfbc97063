"""One transformer block of CLIP, in two halves, on open_clip's own weights.

Both towers run blocks through these functions, so that a tower can decide between the halves which
positions attend to which, and which positions the rest of the network still needs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from .linear import linear
from .precision import SLOPE


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
    return F.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def project(block: Any, x: Tensor) -> Tensor:
    """First half: queries, keys and values of x (B, T, w) side by side, (B, T, 3 w)."""
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    return linear(layer_norm(x, block.ln_1, weight.dtype), weight, bias)


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


def finish(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Second half: x (B, T, w) and the attended values (B, T, w) of the same positions -> (B, T, w)."""
    out = block.attn.out_proj
    x = x + block.ls_1(linear(attended, out.weight, out.bias))
    return x + block.ls_2(_feed_forward(block.mlp, layer_norm(x, block.ln_2, out.weight.dtype)))


def _feed_forward(mlp: Any, x: Tensor) -> Tensor:
    """OpenAI's activation, x sigmoid(s x), is silu(s x) / s: one pass over the wide layer instead of three, of which
    only the input is kept for the gradient. The factors go to where the layer is narrow; in lower precision they stand
    in the weights (see ``precision``).
    """
    widen, activation, narrow = mlp
    if not isinstance(activation, QuickGELU):
        return mlp(x)
    hidden = F.silu(linear(x * SLOPE, widen.weight, widen.bias * SLOPE))
    return torch.add(narrow.bias, linear(hidden, narrow.weight), alpha=1 / SLOPE)


def replace_tokens(x: Tensor, fresh: Tensor, start: int) -> Tensor:
    """x (A, B, T, w) with fresh (A or 1, B or 1, n, w) in place of the tokens ``start`` .. ``start + n``."""
    end = start + fresh.shape[2]
    return x.slice_scatter(fresh.to(x.dtype).expand(*x.shape[:2], -1, -1), dim=2, start=start, end=end)
