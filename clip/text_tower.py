"""CLIP's text tower with context tokens and deep text prompts."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arrangement import Arrangement, arrange, classes_of_a_row
from .blocks import finish, heads, layer_norm, project, replace_tokens, require_plain, side_by_side
from .branch_attention import attend_packed, grove_mask
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

    Attributes:
        packed: which arrangement of the tokens to use (see ``arrangement``); None: the one for the device.

    Args:
        text: open_clip's text tower, or a model that is one.
        stream: dtype of what passes from block to block; products are in that of their weights.
    """

    def __init__(self, text: Any, stream: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.stream = stream
        self.packed: bool | None = None
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
        root, branches = split_texts(texts, self.context_length)
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
        return self._encode(prompts.root, prompts.branch, deep, self.arrangement(prompts.layout))

    def arrangement(self, layout: Layout) -> Arrangement:
        """Where the tokens of a forest stand in the tower's batch."""
        return arrange(layout, self.positional_embedding.device, self._packed(), self.context_length)

    def classes_of_a_row(self, layout: Layout) -> int:
        """Classes of the longest branch that are one step of what the tower computes and keeps."""
        return classes_of_a_row(layout, self._packed())

    def _packed(self) -> bool:
        return self.positional_embedding.device.type == "cpu" if self.packed is None else self.packed

    def compile(self, **options: Any) -> None:
        """torch.compile of all but the indices, which are looked up."""
        self.__dict__["_encode"] = torch.compile(self._encode, **options)

    def _encode(self, root: Tensor, branch: Tensor, deep: Tensor | None, at: Arrangement) -> TextFeatures:
        n_roots = len(root)
        embedding, layers = self.positional_embedding, () if deep is None else deep.unbind()
        root = (root + embedding[at.root_positions]).to(self.stream)
        branch = (branch.index_select(-2, at.order) + embedding[at.branch_positions]).to(self.stream)
        groves = 1 if at.owner is None else len(at.owner) // n_roots
        x = _join(root, branch, groves)

        mask = None
        blocks = self.transformer.resblocks
        for i, block in enumerate(blocks):
            if 0 < i <= len(layers):
                x = replace_tokens(
                    x.unflatten(0, (n_roots, groves)), layers[i - 1][:, None], start=1
                ).flatten(0, 1)
            # what enters the first block is the same under all roots, and mostly frozen: no gradient is needed there
            qkv = project(block, x) if i else _join(project(block, root), project(block, branch), groves)
            q, k, v = heads(block, qkv)
            ends_only = at.tokens is None and block is blocks[-1]
            if at.owner is None:
                if ends_only:
                    x, q = x[:, at.ends], q[:, :, at.ends]
                attended = side_by_side(attend_packed(q, k, v, at.groups, at.padding, ends_only))
            else:
                if mask is None:
                    mask = grove_mask(at.owner, q.dtype)
                attended = side_by_side(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
                if ends_only:
                    x, attended = (part.flatten(0, 1).index_select(0, at.summaries) for part in (x, attended))
            x = finish(block, x, attended)

        projection = self.text_projection
        if projection is None:
            x = layer_norm(x, self.ln_final)
        elif isinstance(projection, nn.Linear):
            x = projection(layer_norm(x, self.ln_final, projection.weight.dtype))
        else:
            x = layer_norm(x, self.ln_final, projection.dtype) @ projection
        rows = x.flatten(0, -2)
        selected = at.tokens is None and at.owner is not None
        summary = rows if selected else rows.index_select(0, at.summaries)
        summary = summary.unflatten(0, (-1, n_roots))
        if at.tokens is None:
            return TextFeatures(summary, None)
        tokens = rows.index_select(0, at.tokens).unflatten(0, (*summary.shape[:2], -1))
        if at.of_root is not None:  # all classes' gradients of these in one sum
            tokens = torch.where(at.of_root, rows.unflatten(0, (n_roots, -1))[:, : tokens.shape[2]], tokens)
        return TextFeatures(summary, tokens)


def _join(root: Tensor, branch: Tensor, groves: int) -> Tensor:
    """Tokens (R, K, c) and (R or 1, G T, c) -> rows (R G, K + T, c)."""
    branches = branch.unflatten(1, (groves, -1)).expand(len(root), -1, -1, -1)
    return torch.cat([root[:, None].expand(-1, groves, -1, -1), branches], dim=2).flatten(0, 1)


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
