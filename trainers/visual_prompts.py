"""Visual prompts of all depths: free parameters, or projected from the text side."""

import torch
from torch import Tensor, nn

from clip import CLIP

from .text_context import STD


class FreeVisualPrompts(nn.Module):
    """Free visual prompts (VPT, Jia et al. 2022), w_v the width of the image tower.

    Learnable parameters: ``shallow`` (M, n, w_v) and ``deep``, D - 1 tensors of the same shape; Gaussian.
    """

    def __init__(self, clip: CLIP, n_prompts: int, n_ctx: int, depth: int) -> None:
        super().__init__()
        check_depth(clip, depth)
        shape = (n_prompts, n_ctx, clip.image.width)
        self.shallow = nn.Parameter(torch.randn(shape) * STD)
        self.deep = nn.ParameterList(torch.randn(shape) * STD for _ in range(depth - 1))

    def forward(self) -> tuple[Tensor, Tensor | None]:
        """Shallow (M, n, w_v) and deep (D - 1, M, n, w_v) prompts."""
        return self.shallow, torch.stack(list(self.deep)) if len(self.deep) else None


class Projection(nn.Module):
    """Visual prompts as linear maps of the text prompts (MaPLe, Khattak et al. 2023): one map per layer."""

    def __init__(self, clip: CLIP, depth: int) -> None:
        super().__init__()
        check_depth(clip, depth)
        w_t, w_v = clip.text.width, clip.image.width
        self.shallow = nn.Linear(w_t, w_v)
        self.deep = nn.ModuleList(nn.Linear(w_t, w_v) for _ in range(depth - 1))

    def forward(self, ctx: Tensor, deep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """From text prompts (N, n, w_t) and (D_t - 1, N, n, w_t), the first D - 1 of which are used."""
        mapped = [project(layer) for project, layer in zip(self.deep, [] if deep is None else deep)]
        return self.shallow(ctx), torch.stack(mapped) if mapped else None


def check_depth(clip: CLIP, depth: int) -> None:
    if not 1 <= depth <= clip.image.depth:
        raise ValueError(f"visual prompt depth is {depth}, the image tower allows 1 to {clip.image.depth}")
