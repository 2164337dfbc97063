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

_SLOPE = 1.702  #: s of QuickGELU


def require_plain(blocks: Any, tower: str) -> None:
    """Raise ValueError unless every block is CLIP's own kind: pre-norm, one fused attention, one MLP."""
    for block in blocks:
        plain = isinstance(block, ResidualAttentionBlock) and isinstance(block.attn, nn.MultiheadAttention)
        if not plain or hasattr(block, "ln_1_kv"):
            raise ValueError(
                f"{tower}: blocks of type {type(block).__name__} are not CLIP's plain ones, cannot be prompted"
            )


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    """LayerNorm in fp32 whatever the tower runs in; the result has the dtype of ``x``."""
    if isinstance(norm, nn.Identity):
        return x
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps).to(x.dtype)


def project(block: Any, x: Tensor) -> Tensor:
    """First half: queries, keys and values of x (B, T, w) side by side, (B, T, 3 w)."""
    attention = block.attn
    return linear(layer_norm(x, block.ln_1), attention.in_proj_weight, attention.in_proj_bias)


def heads(block: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The queries, keys and values in (B, T, 3 w), each (B, H, T, w / H)."""
    q, k, v = qkv.unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def finish(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Second half: x (B, T, w) and the attended values (B, H, T, w / H) of the same positions -> (B, T, w)."""
    out = block.attn.out_proj
    x = x + block.ls_1(linear(attended.transpose(1, 2).flatten(2), out.weight, out.bias))
    return x + block.ls_2(_feed_forward(block.mlp, layer_norm(x, block.ln_2)))


def _feed_forward(mlp: Any, x: Tensor) -> Tensor:
    """OpenAI's activation, x sigmoid(s x), is silu(s x) / s: one pass over the wide layer instead of three, of which
    only the input is kept for the gradient. The factors go to where the layer is narrow.
    """
    widen, activation, narrow = mlp
    if not isinstance(activation, QuickGELU):
        return mlp(x)
    hidden = F.silu(linear(x * _SLOPE, widen.weight, widen.bias * _SLOPE))
    return torch.add(narrow.bias, linear(hidden, narrow.weight), alpha=1 / _SLOPE)
