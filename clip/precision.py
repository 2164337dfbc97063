"""What the towers compute in: frozen weights stand in the dtype that they are used in, cast once."""

from typing import Any, NamedTuple

import torch
from open_clip.modified_resnet import AttentionPool2d
from open_clip.transformer import Attention, QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

SLOPE = 1.702  #: s of QuickGELU, x sigmoid(s x)


#: Of a block's weights into which the slope goes, by their names in ``changes``.
FACTORS = {"ln_2.weight": SLOPE, "ln_2.bias": SLOPE, "fc.bias": SLOPE, "proj.weight": 1 / SLOPE}


class FoldedQuickGELU(nn.SiLU):
    """QuickGELU of a block whose weights hold the slope."""


class Precision(NamedTuple):
    """Dtypes of a tower. Norms are fp32 in all of them."""

    products: torch.dtype  #: weights and biases of matrix products and convolutions, and what they multiply
    stream: torch.dtype  #: what passes from block to block, and embeddings


PRECISIONS = {
    "fp32": Precision(torch.float32, torch.float32),
    "fp16": Precision(torch.float16, torch.float16),
    "amp": Precision(torch.float16, torch.float32),
    "bf16": Precision(torch.bfloat16, torch.float32),
}


@torch.no_grad()
def cast(model: nn.Module, precision: Precision) -> None:
    """Cast a frozen model's weights, each from what it is to what it is used in. In fp32 it stays as it is."""
    if precision.products == torch.float32:
        return
    for module in model.modules():
        if isinstance(module, ResidualAttentionBlock):
            _fold_slope(module)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.MultiheadAttention, Attention)):
            _to(module, precision.products, *(name for name, _ in module.named_parameters(recurse=False)))
        elif isinstance(module, AttentionPool2d):
            _to(module, precision.products, "positional_embedding")
        elif isinstance(module, VisionTransformer):
            _to(module, precision.products, "proj")
            _to(module, precision.stream, "class_embedding", "positional_embedding")
        _to(module, precision.products, "text_projection")  # of a CLIP, or of its text tower


def _to(module: nn.Module, dtype: torch.dtype, *names: str) -> None:
    for name in names:
        if isinstance(weight := getattr(module, name, None), Tensor):
            weight.data = weight.data.to(dtype)


def _fold_slope(block: Any) -> None:
    """x sigmoid(s x) is silu(s x) / s: the factors go into the norm before and the weights behind.

    One pass over the wide layer instead of three, of which only the input is kept for the gradient. fp32 weights stay
    exact instead (see ``blocks``): in lower precision a weight is rounded once either way.
    """
    widen, activation, narrow = block.mlp
    if isinstance(activation, QuickGELU) and isinstance(block.ln_2, nn.LayerNorm):
        for scaled in (block.ln_2.weight, block.ln_2.bias, widen.bias):
            scaled.mul_(SLOPE)
        narrow.weight.div_(SLOPE)
        block.mlp[1] = FoldedQuickGELU()


def is_folded(block: Any) -> bool:
    """Whether a block's weights hold the slope of its activation."""
    return isinstance(block.mlp[1], FoldedQuickGELU)
