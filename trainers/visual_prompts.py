"""Visual prompts of all depths: free parameters, or projected from the text side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clip import CLIP, Changes, deep_prompts

from .text_context import STD

KEY = "PROMPT_DEPTH_VISION"  #: the config key of the depth, for messages

#: A text context, its deep prompts and a Projection -> their names in the releases of MaPLe and MMTPA.
COUPLED_NAMES = {
    "context.ctx": "prompt_learner.ctx",
    "context.deep": "prompt_learner.compound_prompts_text",
    "projection.shallow": "prompt_learner.proj",
    "projection.deep": "prompt_learner.compound_prompt_projections",
}


class FreeVisualPrompts(nn.Module):
    """Free visual prompts (VPT, Jia et al. 2022), w_v the width of the image tower.

    Learnable parameters: ``shallow`` (n, w_v), or (M, n, w_v) if ``n_prompts`` says M, and ``deep``, D - 1 tensors of
    the same shape; Gaussian.
    """

    def __init__(
        self, clip: CLIP, n_ctx: int, depth: int, key: str = KEY, n_prompts: int | None = None
    ) -> None:
        super().__init__()
        check_depth(clip, depth, key)
        if n_ctx < 1:
            raise ValueError(f"N_CTX_VISION is {n_ctx}, at least one token is needed")
        shape = (n_ctx, clip.image.width) if n_prompts is None else (n_prompts, n_ctx, clip.image.width)
        self.shallow = nn.Parameter(torch.randn(shape) * STD)
        self.deep = nn.ParameterList(torch.randn(shape) * STD for _ in range(depth - 1))

    def forward(self) -> Changes:
        """Shallow and deep prompts (M, n, w_v)."""
        shallow, *deep = (layer if layer.dim() == 3 else layer[None] for layer in (self.shallow, *self.deep))
        return Changes(shallow, deep_prompts(deep))


class Projection(nn.Module):
    """Visual prompts as linear maps of the text prompts (MaPLe, Khattak et al. 2023): one map per layer."""

    def __init__(self, clip: CLIP, depth: int, key: str = KEY) -> None:
        super().__init__()
        check_depth(clip, depth, key)
        w_t, w_v = clip.text.width, clip.image.width
        self.shallow = nn.Linear(w_t, w_v)
        self.deep = nn.ModuleList(nn.Linear(w_t, w_v) for _ in range(depth - 1))

    def forward(self, ctx: Tensor, deep: Sequence[Tensor]) -> Changes:
        """From text prompts (n, w_t) or (N, n, w_t) and deep ones (N, n, w_t), the first D - 1 of which are used."""
        shallow = self.shallow(ctx if ctx.dim() == 3 else ctx[None])
        return Changes(shallow, deep_prompts([project(layer) for project, layer in zip(self.deep, deep)]))


def check_depth(clip: CLIP, depth: int, key: str) -> None:
    """Raise ValueError unless the image tower takes visual prompts down to ``depth`` blocks."""
    if clip.image.obstacle is not None:
        raise ValueError(
            f"MODEL.BACKBONE.NAME {clip.name!r} takes no visual prompts, a plain ViT is needed: its image tower is "
            f"{clip.image.obstacle}"
        )
    if not 1 <= depth <= clip.image.depth:
        raise ValueError(f"{key} is {depth}, the image tower of {clip.name} allows 1 to {clip.image.depth}")


def vpt_names(deep: str, tower: str, depth: int) -> dict[str, str]:
    """Deep prompts -> their names in the releases of MaPLe and PromptSRC, which keep them in the towers' blocks."""
    blocks = range(1, depth)
    return {f"{deep}.{i - 1}": f"{tower}.transformer.resblocks.{i}.VPT_shallow" for i in blocks}
