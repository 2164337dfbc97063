"""CLIP's text tower with context tokens and deep text prompts."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import finish, heads, layer_norm, require_plain
from .text_prompts import Layout, TextPrompts, split_texts


class TextFeatures(NamedTuple):
    """What the tower returns, in the joint space and not normalised."""

    summary: Tensor  #: (C, R, d), the end-of-text token
    tokens: (
        Tensor | None
    )  #: (C, R, L, d); class c has layout.tokens[c] of them, behind these the last one is repeated


class TextTower(nn.Module):
    """open_clip's text transformer on prompts that come as a forest (see text_prompts).

    The result equals encoding all R x C texts at 77 positions each; what it costs is one pass over
    K + T tokens per root, with K the shared beginning and T the classes' own tokens.
    """

    def __init__(self, text: Any) -> None:
        super().__init__()
        require_causal(text)
        self.transformer = text.transformer
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection

    @property
    def width(self) -> int:
        """Width of a token, and so of a context token."""
        return self.token_embedding.weight.shape[1]

    @property
    def depth(self) -> int:
        """Number of blocks, the largest possible prompt depth."""
        return len(self.transformer.resblocks)

    @property
    def context_length(self) -> int:
        return self.positional_embedding.shape[0]

    def embed(self, ids: list[int]) -> Tensor:
        """(len(ids), w) embeddings of token ids."""
        return self.token_embedding(torch.tensor(ids, device=self.positional_embedding.device))

    def encode(self, texts: list[str]) -> Tensor:
        """(C, d) summaries of plain texts, not normalised."""
        root, branches = split_texts(texts)
        lengths = tuple(len(branch) for branch in branches)
        layout = Layout(roots=(len(root),), branches=lengths, ends=tuple(n - 1 for n in lengths))
        branch = self.embed([token for own in branches for token in own])
        return self(TextPrompts(self.embed(root)[None], branch, layout)).summary[:, 0]

    def forward(self, prompts: TextPrompts, deep: Tensor | None = None) -> TextFeatures:
        """Encode C classes under each of R roots.

        Args:
            prompts: the forest, embeddings of width w.
            deep: (D - 1, R, n, w), replacements of the roots' positions 1..n at the input of blocks 2..D.

        Output tokens are returned where the layout asks for them; otherwise the last block computes the
        end-of-text positions alone.
        """
        layout, dtype = prompts.layout, self.transformer.get_cast_dtype()
        at = _indices(layout, prompts.root.device)
        n_roots, n_shared, _ = prompts.root.shape

        x = torch.cat([prompts.root, prompts.branch.expand(n_roots, -1, -1)], dim=1)
        x = (x + self.positional_embedding[at.positions]).to(dtype)

        blocks = self.transformer.resblocks
        for i, block in enumerate(blocks):
            if deep is not None and 0 < i <= len(deep):
                fresh = deep[i - 1].to(x.dtype)
                x = torch.cat([x[:, :1], fresh, x[:, 1 + fresh.shape[1] :]], dim=1)
            q, k, v = heads(block, x)
            keys, values = _along_branches(k, n_shared, at), _along_branches(v, n_shared, at)
            if block is blocks[-1] and not layout.tokens:
                q, x = q[:, :, n_shared + at.ends], x[:, n_shared + at.ends]
                q = q.transpose(1, 2).flatten(0, 1)[:, :, None]  # one query each: (R * C, H, 1, w / H)
                own = F.scaled_dot_product_attention(q, keys, values, attn_mask=at.visible_from_ends)
                attended = own[:, :, 0].unflatten(0, (n_roots, -1)).transpose(1, 2)
            else:
                shared = [part[:, :, :n_shared] for part in (q, k, v)]
                root = F.scaled_dot_product_attention(shared[0], shared[1], shared[2], is_causal=True)
                q = _pad(q, n_shared, at).flatten(0, 1)
                own = F.scaled_dot_product_attention(q, keys, values, attn_mask=at.visible)
                own = own.unflatten(0, (n_roots, -1)).permute(0, 2, 1, 3, 4).flatten(2, 3)[:, :, at.packed]
                attended = torch.cat([root, own], dim=2)
            x = finish(block, x, attended)

        x = layer_norm(x, self.ln_final)
        if self.text_projection is not None:
            linear = isinstance(self.text_projection, nn.Linear)
            x = self.text_projection(x) if linear else x @ self.text_projection.to(x.dtype)
        if not layout.tokens:
            return TextFeatures(x.transpose(0, 1), None)
        rows = torch.arange(n_roots, device=x.device)[:, None, None]
        tokens = x[rows, at.read_out].transpose(0, 1)
        return TextFeatures(x[:, n_shared + at.ends].transpose(0, 1), tokens)


class _Indices(NamedTuple):
    """A layout's index tensors on a device (see the methods of Layout)."""

    positions: Tensor
    ends: Tensor  # (C,) of the end-of-text tokens among the T
    padded: Tensor
    packed: Tensor
    visible: Tensor  # (R * C, 1, S, K + S), for attention
    visible_from_ends: Tensor  # (R * C, 1, 1, K + S)
    read_out: Tensor | None


@lru_cache(maxsize=32)
def _indices(layout: Layout, device: torch.device) -> _Indices:
    n_classes, n_roots = len(layout.branches), len(layout.roots)
    ends = torch.tensor(layout.ends)
    visible = layout.visible()
    indices = _Indices(
        positions=layout.positions(),
        ends=layout.starts + ends,
        padded=layout.padded(),
        packed=layout.packed(),
        visible=visible[:, None, None].expand(-1, n_classes, -1, -1, -1).flatten(0, 1),
        visible_from_ends=visible[:, ends].reshape(n_roots * n_classes, 1, 1, -1),
        read_out=layout.read_out() if layout.tokens else None,
    )
    return _Indices(*(None if index is None else index.to(device) for index in indices))  # type: ignore[arg-type]


def _pad(x: Tensor, n_shared: int, at: _Indices) -> Tensor:
    """(R, H, K + T, c) -> (R, C, H, S, c), the branches side by side."""
    return x[:, :, n_shared + at.padded].transpose(1, 2)


def _along_branches(x: Tensor, n_shared: int, at: _Indices) -> Tensor:
    """(R, H, K + T, c) -> (R * C, H, K + S, c), the tokens along each path from root to leaf."""
    own = _pad(x, n_shared, at)
    root = x[:, None, :, :n_shared].expand(-1, own.shape[1], -1, -1, -1)
    return torch.cat([root, own], dim=3).flatten(0, 1)


def require_causal(text: Any) -> None:
    """Raise ValueError unless ``text`` is CLIP's causal transformer that reads the end-of-text token."""
    if not hasattr(text, "transformer") or not hasattr(text, "token_embedding"):
        raise ValueError(
            f"text tower of type {type(text).__name__} is not CLIP's transformer, cannot be prompted"
        )
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if text.attn_mask is None or pool not in ("argmax", "eos") or getattr(text, "cls_emb", None) is not None:
        raise ValueError(
            "text tower does not attend causally or does not read the end of text, cannot be prompted"
        )
    require_plain(text.transformer.resblocks, "text tower")
