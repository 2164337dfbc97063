"""CLIP's text tower with context tokens and deep text prompts."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import finish, heads, layer_norm, project, require_plain
from .branch_attention import Groups, attend
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
        return self._encode(prompts.root, prompts.branch, deep, _indices(prompts.layout, prompts.root.device))

    def compile(self, **options: Any) -> None:
        """torch.compile of all but the indices, which are looked up."""
        self.__dict__["_encode"] = torch.compile(self._encode, **options)

    def _encode(self, root: Tensor, branch: Tensor, deep: Tensor | None, at: "_Indices") -> TextFeatures:
        dtype = self.transformer.get_cast_dtype()
        n_roots, n_shared, _ = root.shape
        summary_only = at.read_out is None

        root = (root + self.positional_embedding[at.root_positions]).to(dtype)
        branch = branch.index_select(-2, at.order)
        branch = (branch + self.positional_embedding[at.branch_positions]).to(dtype)
        x = _join(root, branch)

        blocks = self.transformer.resblocks
        for i, block in enumerate(blocks):
            if deep is not None and 0 < i <= len(deep):
                fresh = deep[i - 1].to(x.dtype)
                x = torch.cat([x[:, :1], fresh, x[:, 1 + fresh.shape[1] :]], dim=1)
            # what enters the first block is the same under all roots, and mostly frozen: no gradient is needed there
            qkv = project(block, x) if i else _join(project(block, root), project(block, branch))
            q, k, v = heads(block, qkv)
            if summary_only and block is blocks[-1]:
                ends = n_shared + at.ends
                x, q = x[:, ends], q[:, :, ends]
                attended = attend(q, k, v, at.groups, at.padding, ends_only=True)
            else:
                own = attend(q, k, v, at.groups, at.padding)
                q, k, v = (part[:, :, :n_shared] for part in (q, k, v))
                attended = torch.cat([F.scaled_dot_product_attention(q, k, v, is_causal=True), own], dim=2)
            x = finish(block, x, attended)

        x = layer_norm(x, self.ln_final)
        if self.text_projection is not None:
            linear = isinstance(self.text_projection, nn.Linear)
            x = self.text_projection(x) if linear else x @ self.text_projection.to(x.dtype)
        if at.read_out is None:
            return TextFeatures(x[:, at.rank].transpose(0, 1), None)
        rows = torch.arange(n_roots, device=x.device)[:, None, None]
        tokens = x[rows, at.read_out].transpose(0, 1)
        return TextFeatures(x[:, n_shared + at.ends[at.rank]].transpose(0, 1), tokens)


class _Indices(NamedTuple):
    """Where a layout's tokens stand when its classes are sorted by length, as index tensors on a device."""

    order: Tensor  # (T,) which of the branches' tokens stands there
    groups: Groups
    root_positions: Tensor  # (R, K) in the text
    branch_positions: Tensor  # (R, T) in the text, or (1, T) where roots are equally long
    padding: Tensor | None  # (R, K) of roots shorter than K
    ends: Tensor  # (C,) of the sorted classes' ends of text among the T
    rank: Tensor  # (C,) of each class among the sorted ones
    read_out: Tensor | None  # (R, C, L) where output tokens are asked for


@lru_cache(maxsize=32)
def _indices(layout: Layout, device: torch.device) -> _Indices:
    # what stands behind the end of text is needed only for its output
    lengths = layout.branches if layout.tokens else tuple(end + 1 for end in layout.ends)
    classes = sorted(range(len(lengths)), key=lengths.__getitem__)
    rank = torch.tensor(classes).argsort()
    by_length = replace(layout, branches=lengths).select(classes)
    counts = torch.tensor(by_length.branches)
    shift = layout.starts[classes] - by_length.starts
    positions = by_length.positions()
    equal = len(set(layout.roots)) == 1
    root = torch.arange(layout.longest_root)
    tensors = {
        "order": torch.arange(len(positions[0]) - len(root)) + shift.repeat_interleave(counts),
        "root_positions": positions[:, : len(root)],
        "branch_positions": positions[: 1 if equal else None, len(root) :],
        "padding": None if equal else root >= torch.tensor(layout.roots)[:, None],
        "ends": by_length.starts + torch.tensor(by_length.ends),
        "rank": rank,
        "read_out": by_length.read_out()[:, rank] if layout.tokens else None,
    }
    on_device = {name: None if index is None else index.to(device) for name, index in tensors.items()}
    return _Indices(groups=tuple(Counter(by_length.branches).items()), **on_device)  # type: ignore[arg-type]


def _join(root: Tensor, branch: Tensor) -> Tensor:
    """(R, K, c) and (R or 1, T, c) -> (R, K + T, c)."""
    return torch.cat([root, branch.expand(len(root), -1, -1)], dim=1)


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
