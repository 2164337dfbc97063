"""CLIP's image tower, with what a method changes in it and the output tokens that it asks for."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from .blocks import (
    finish,
    heads,
    insert_tokens,
    layer_norm,
    project,
    replace_tokens,
    require_plain,
    side_by_side,
)
from .changes import NONE, Changes, Tokens, by_block, count
from .linear import attend, linear
from .weights import affine, block_weights, changed_matrix, changed_norm, merged, of_blocks, own_weight

#: Weights outside of the blocks.
OUTSIDE = ("ln_pre.weight", "ln_pre.bias", "ln_post.weight", "ln_post.bias", "projection")


class Tap(NamedTuple):
    """Which output tokens are wanted beside the class token, and by which path they get there.

    Attributes:
        of: "all"; "patches"; or those that were "added".
        path: "attention": the tower's own. "values": the last block mixes nothing, each token keeps its own values
            (GalLoP). "value-value": beside the tower runs the sum of the input and of every block's attention of values
            to values, without MLPs (SOT-GLP); norm and output layer are those of the blocks.
        projected: into the joint space; else they end behind the last norm, of the tower's width.
        first_attention: the value-value path also gets the first block's ordinary attention (SOT-GLP as released).
    """

    of: str = "all"
    path: str = "attention"
    projected: bool = True
    first_attention: bool = False

    def positions(self, own: int) -> slice:
        """Of a sequence that begins with the class token and patches, ``own`` together."""
        return {"all": slice(1, None), "patches": slice(1, own), "added": slice(own, None)}[self.of]


class ImageFeatures(NamedTuple):
    """What the tower returns, in the joint space and not normalised."""

    summary: Tensor  #: (B, M, d), the class token
    tokens: (
        Tensor | None
    )  #: (B, M, P, d), every other output token: patches, then prompts; a ResNet's positions; or what a tap asks for


class ImageTower(nn.Module):
    """open_clip's image tower; a plain ViT takes prompts, any other kind only images.

    Visual prompts (VPT, Jia et al. 2022) are ``n`` extra tokens behind the patches, added after the positional
    embedding and before ``ln_pre``. Tokens may enter later, too, behind the patches as well: attention does not know
    the order. Deep prompts replace what these have become at the input of blocks 2..D.

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

    def forward(self, images: Tensor, changes: Changes = NONE, tokens: bool | Tap = False) -> ImageFeatures:
        """Encode every image once per visual prompt.

        Args:
            images: (B, 3, H, W), normalised.
            changes: what a method changes; where no tokens are added an image is computed once (M = 1).
            tokens: also return output tokens: all but the class token, or those that a tap asks for; otherwise the last
                block computes the class token alone.

        Raises:
            ValueError: the tower is no plain ViT and is to be changed, or has no such block, weight or tokens.
        """
        if not changes.none or isinstance(tokens, Tap):
            self._require_promptable()
        if isinstance(self.visual, ModifiedResNet) and tokens:
            return _attention_pool_all(self.visual, images.to(self._dtype()))
        if self.obstacle is not None:
            if tokens:
                raise ValueError(f"image tower of type {self.obstacle} has no output tokens to return")
            return ImageFeatures(self.visual(images.to(self._dtype()))[:, None], None)

        visual, stream, weights = self.visual, self.stream, changes.weights
        tap = Tap() if tokens is True else tokens or None
        blocks = visual.transformer.resblocks
        entering = by_block(changes.tokens, len(blocks), "image tower")
        of_block = of_blocks(weights, OUTSIDE, len(blocks), "image tower")
        patches = visual.conv1(images.to(self._dtype())).flatten(2).transpose(1, 2)
        start = visual.class_embedding.to(stream).expand(images.shape[0], 1, -1)
        x = torch.cat([start, patches.to(stream)], dim=1) + visual.positional_embedding.to(stream)
        wanted = slice(0) if tap is None else tap.positions(x.shape[1])

        # what enters the first block is the same for all copies of an image, and for all images under a prompt
        ln_pre = changed_norm(visual.ln_pre, "ln_pre", weights)
        images_only = layer_norm(x, ln_pre)
        prompts_only = None if changes.prompts is None else layer_norm(changes.prompts.to(stream), ln_pre)
        x = _join(images_only, prompts_only)
        values_only = None  # the tap's path beside the tower's

        for i, block in enumerate(blocks):
            of_this, is_last = block_weights(block, of_block.get(i)), block is blocks[-1]
            for each in entering[i]:
                x = _enter(x.unflatten(0, (images.shape[0], -1)), each, images_only.shape[1]).flatten(0, 1)
            if i or entering[0]:
                qkv = project(of_this, x)
            else:
                of_prompts = None if prompts_only is None else project(of_this, prompts_only)
                qkv = _join(project(of_this, images_only), of_prompts)
            q, k, v = heads(block, qkv)
            if tap is not None and tap.path == "value-value":
                before = x[:, wanted] if values_only is None else values_only
                among = attend(F.scaled_dot_product_attention, v[:, :, wanted], v, v)
                values_only = before + affine(of_this.o, side_by_side(among))
            if is_last and (tap is None or tap.path == "value-value"):
                x, q = x[:, :1], q[:, :, :1]
            elif is_last and tap is not None and tap.path == "values":
                x, q = _class_and(x, wanted), q[:, :, :1]
            elif is_last and tap is not None and tap.of != "all":
                x, q = _class_and(x, wanted), _class_and(q, wanted, dim=2)
            attended = side_by_side(attend(F.scaled_dot_product_attention, q, k, v))
            if values_only is not None and tap is not None and tap.first_attention and i == 0:
                values_only = values_only + affine(of_this.o, attended[:, wanted])
            if is_last and tap is not None and tap.path == "values":
                attended = torch.cat([attended, qkv[:, wanted].chunk(3, dim=-1)[2]], dim=1)
            x = finish(block, of_this, x, attended)

        if values_only is not None:
            x = torch.cat([x, values_only], dim=1)
        projection = changed_matrix(visual.proj, "projection", weights)
        x = layer_norm(x, changed_norm(visual.ln_post, "ln_post", weights), projection.dtype)
        if tap is not None and not tap.projected:
            summary, x = linear(x[:, :1], projection.t()), x[:, 1:]
            return ImageFeatures(*(part.unflatten(0, (images.shape[0], -1)) for part in (summary[:, 0], x)))
        x = linear(x, projection.t()).unflatten(0, (images.shape[0], -1))
        return ImageFeatures(x[:, :, 0], None if tap is None else x[:, :, 1:])

    def weight(self, name: str) -> Tensor:
        """A weight by its name in ``changes``, as CLIP has it, in fp32.

        Raises:
            ValueError: there is none.
        """
        self._require_promptable()
        visual = self.visual
        of_blocks({name: visual.proj}, OUTSIDE, self.depth, "image tower")
        if name in OUTSIDE:
            return visual.get_parameter(name.replace("projection", "proj")).detach().float()
        _, number, place = name.split(".", 2)
        return own_weight(visual.transformer.resblocks[int(number)], place)

    def merged(self, changes: Changes) -> Changes:
        """The same changes for passes without a gradient: additions to weights are made part of them once."""
        blocks = () if self.obstacle is not None else self.visual.transformer.resblocks
        return replace(changes, weights=merged(blocks, changes.weights, OUTSIDE, "image tower"))

    def _dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.visual.parameters() if p.dim() == 4)  # a convolution's weight

    def _require_promptable(self) -> None:
        if self.obstacle is not None:
            raise ValueError(f"visual prompts need a plain ViT, this image tower is not one: {self.obstacle}")


def _enter(x: Tensor, tokens: Tokens, own: int) -> Tensor:
    """x (B, M or 1, T, w), whose first ``own`` are class token and patches, with tokens that enter."""
    values, start = tokens.values[None], own + tokens.offset
    if tokens.insert:
        x = x.expand(-1, max(x.shape[1], len(tokens.values)), -1, -1)
        return insert_tokens(x, values, start)
    if start + (n := count(tokens)) > x.shape[2]:
        raise ValueError(
            f"{n} tokens are to replace others in front of block {tokens.block}, behind the patches there "
            f"are {x.shape[2] - own}"
        )
    return replace_tokens(x, values, start, tokens.kept)


def _class_and(x: Tensor, wanted: slice, dim: int = 1) -> Tensor:
    """The class token and those that are wanted."""
    length = x.shape[dim]
    first, last, _ = wanted.indices(length)
    return torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, first, last - first)], dim=dim)


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
