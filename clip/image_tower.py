"""CLIP's image tower with visual prompts."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from .blocks import finish, heads, layer_norm, project, replace_tokens, require_plain, side_by_side


class ImageFeatures(NamedTuple):
    """What the tower returns, in the joint space and not normalised."""

    summary: Tensor  #: (B, M, d), the class token
    tokens: (
        Tensor | None
    )  #: (B, M, P, d), every other output token: patches, then prompts; a ResNet's positions


class ImageTower(nn.Module):
    """open_clip's image tower; a plain ViT takes prompts, any other kind only images.

    Visual prompts (VPT, Jia et al. 2022) are ``n`` extra tokens behind the patches, added after the positional
    embedding and before ``ln_pre``. Deep prompts replace their outputs at the input of blocks 2..D.

    Args:
        visual: open_clip's image tower.
        stream: dtype of what passes from block to block; products are in that of their weights.
    """

    def __init__(self, visual: nn.Module, stream: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.visual: Any = visual
        self.stream = stream
        self.obstacle = _why_not_promptable(visual)

    @property
    def width(self) -> int:
        """Width of the tower's tokens, and so of a visual prompt."""
        self._require_promptable()
        return self.visual.class_embedding.shape[0]

    @property
    def depth(self) -> int:
        """Number of blocks, the largest possible prompt depth."""
        self._require_promptable()
        return len(self.visual.transformer.resblocks)

    @property
    def image_size(self) -> tuple[int, int]:
        size = self.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches (of a ResNet: positions) that come first among the output tokens."""
        if isinstance(self.visual, ModifiedResNet):
            height, width = self.image_size
            return height // 32, width // 32
        self._require_promptable()
        rows, columns = self.visual.grid_size
        return rows, columns

    def forward(
        self, images: Tensor, prompts: Tensor | None = None, deep: Tensor | None = None, tokens: bool = False
    ) -> ImageFeatures:
        """Encode every image once per visual prompt.

        Args:
            images: (B, 3, H, W), normalised.
            prompts: (M, n, w) shallow visual prompts; None encodes the plain image (M = 1).
            deep: (D - 1, M, n, w), the replacements at the input of blocks 2..D.
            tokens: also return the output tokens; otherwise the last block computes the class token alone.
        """
        if prompts is not None:
            self._require_promptable()
        elif deep is not None:
            raise ValueError("deep visual prompts replace shallow ones, and there are none")
        if isinstance(self.visual, ModifiedResNet) and tokens:
            return _attention_pool_all(self.visual, images.to(self._dtype()))
        if self.obstacle is not None:
            if tokens:
                raise ValueError(f"image tower of type {self.obstacle} has no output tokens to return")
            return ImageFeatures(self.visual(images.to(self._dtype()))[:, None], None)

        visual, stream = self.visual, self.stream
        patches = visual.conv1(images.to(self._dtype())).flatten(2).transpose(1, 2)
        start = visual.class_embedding.to(stream).expand(images.shape[0], 1, -1)
        x = torch.cat([start, patches.to(stream)], dim=1) + visual.positional_embedding.to(stream)

        # what enters the first block is the same for all copies of an image, and for all images under a prompt
        images_only = layer_norm(x, visual.ln_pre)
        prompts_only = None if prompts is None else layer_norm(prompts.to(stream), visual.ln_pre)
        x = _join(images_only, prompts_only)

        layers = () if deep is None else deep.unbind()
        blocks = visual.transformer.resblocks
        for i, block in enumerate(blocks):
            if 0 < i <= len(layers):
                fresh = layers[i - 1]
                pairs = x.unflatten(0, (images.shape[0], -1))
                x = replace_tokens(pairs, fresh[None], x.shape[1] - fresh.shape[1]).flatten(0, 1)
            if i:
                qkv = project(block, x)
            else:
                of_prompts = None if prompts_only is None else project(block, prompts_only)
                qkv = _join(project(block, images_only), of_prompts)
            q, k, v = heads(block, qkv)
            if block is blocks[-1] and not tokens:
                x, q = x[:, :1], q[:, :, :1]
            x = finish(block, x, side_by_side(F.scaled_dot_product_attention(q, k, v)))

        x = layer_norm(x, visual.ln_post, visual.proj.dtype) @ visual.proj
        x = x.unflatten(0, (images.shape[0], -1))
        return ImageFeatures(x[:, :, 0], x[:, :, 1:] if tokens else None)

    def _dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.visual.parameters() if p.dim() == 4)  # a convolution's weight

    def _require_promptable(self) -> None:
        if self.obstacle is not None:
            raise ValueError(f"visual prompts need a plain ViT, this image tower is not one: {self.obstacle}")


def _join(images: Tensor, prompts: Tensor | None) -> Tensor:
    """(B, P, c) and (M, n, c) -> (B * M, P + n, c), every image with every prompt; without prompts the images."""
    if prompts is None:
        return images
    pairs = (images[:, None].expand(-1, len(prompts), -1, -1), prompts.expand(images.shape[0], -1, -1, -1))
    return torch.cat(pairs, dim=2).flatten(0, 1)


def _attention_pool_all(visual: Any, images: Tensor) -> ImageFeatures:
    """A CLIP ResNet whose attention pool answers for every position, not only for the mean (as in PLOT)."""
    pool = visual.attnpool
    x = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
    x = x + pool.positional_embedding.to(x.dtype)
    projections = (pool.q_proj, pool.k_proj, pool.v_proj)
    q, k, v = (project(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for project in projections)
    x = pool.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[:, None]
    return ImageFeatures(x[:, :, 0], x[:, :, 1:])


def _why_not_promptable(visual: Any) -> str | None:
    if not isinstance(visual, VisionTransformer):
        return type(visual).__name__
    if (
        visual.attn_pool is not None
        or visual.pool_type != "tok"
        or visual.final_ln_after_pool
        or visual.proj is None
    ):
        return "its summary is not the class token"
    require_plain(visual.transformer.resblocks, "image tower")
    return None
