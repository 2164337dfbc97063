"""CLIP's text tower on context tokens, with what a method changes in it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arrangement import Arrangement, Split, arrange, classes_of_a_row, split
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
from .branch_attention import attend_packed, grove_mask
from .changes import NONE, Changes, Tokens, by_block, count, is_by_class
from .linear import attend, linear
from .text_prompts import Layout, TextPrompts, split_texts
from .weights import Change, block_weights, changed_matrix, changed_norm, merged, of_blocks, own_weight

#: Weights outside of the blocks.
OUTSIDE = ("ln_final.weight", "ln_final.bias", "projection")


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

    def forward(self, prompts: TextPrompts, changes: Changes = NONE) -> TextFeatures:
        """Encode C classes under each of R roots.

        Args:
            prompts: the forest, embeddings of width w.
            changes: what a method changes. Tokens enter behind the roots' start token. Where they are inserted the
                roots grow, and output tokens are counted with them; where they differ by class each class has the rest
                of its roots for itself from that block on.

        Output tokens are returned where the layout asks for them; otherwise the last block computes the
        end-of-text positions alone.

        Raises:
            ValueError: the tower has no such block or weight, the roots no such tokens; or tokens that differ by class
                are inserted, or are not the last ones that enter.
        """
        check_entering(changes.tokens, prompts.layout, self.depth)
        inserted = sum(count(tokens) for tokens in changes.tokens if tokens.insert)
        at, own = self.arrangement(prompts.layout, inserted), changes.split
        device, packed = self.positional_embedding.device, self._packed()
        apart = own and split(prompts.layout, device, packed, 1 + own.offset, count(own), inserted)
        return self._encode(prompts.root, prompts.branch, changes.tokens, changes.weights, at, apart)

    def arrangement(self, layout: Layout, inserted: int = 0) -> Arrangement:
        """Where the tokens of a forest stand in the tower's batch."""
        device = self.positional_embedding.device
        return arrange(layout, device, self._packed(), self.context_length, inserted)

    def classes_of_a_row(self, layout: Layout, changes: Changes = NONE) -> int:
        """Classes of the longest branch that are one step of what the tower computes and keeps."""
        layout = layout.grown(sum(count(tokens) for tokens in changes.tokens if tokens.insert))
        own = changes.split
        return classes_of_a_row(layout if own is None else layout.split(1 + own.offset), self._packed())

    def weight(self, name: str) -> Tensor:
        """A weight by its name in ``changes``, as CLIP has it, in fp32.

        Raises:
            ValueError: there is none.
        """
        of_blocks({name: self.ln_final.weight}, OUTSIDE, self.depth, "text tower")
        if name == "projection":
            projection = self.text_projection
            return (
                (projection.weight.t() if isinstance(projection, nn.Linear) else projection).detach().float()
            )
        if name in OUTSIDE:
            return self.get_parameter(name).detach().float()
        _, number, place = name.split(".", 2)
        return own_weight(self.transformer.resblocks[int(number)], place)

    def merged(self, changes: Changes) -> Changes:
        """The same changes for passes without a gradient: additions to weights are made part of them once."""
        blocks = self.transformer.resblocks
        return replace(changes, weights=merged(blocks, changes.weights, OUTSIDE, "text tower"))

    def _packed(self) -> bool:
        return self.positional_embedding.device.type == "cpu" if self.packed is None else self.packed

    def compile(self, **options: Any) -> None:
        """torch.compile of all but the indices, which are looked up."""
        self.__dict__["_encode"] = torch.compile(self._encode, **options)

    def _encode(
        self,
        root: Tensor,
        branch: Tensor,
        tokens: tuple[Tokens, ...],
        weights: Mapping[str, Change],
        at: Arrangement,
        apart: Split | None,
    ) -> TextFeatures:
        n_roots, embedding = len(root), self.positional_embedding
        root = (root + embedding[at.root_positions]).to(self.stream)
        branch = (branch.index_select(-2, at.order) + embedding[at.branch_positions]).to(self.stream)
        groves = 1 if at.owner is None else len(at.owner) // n_roots
        x = _join(root, branch, groves)

        blocks = self.transformer.resblocks
        entering = by_block(tokens, len(blocks), "text tower")
        of_block = of_blocks(weights, OUTSIDE, len(blocks), "text tower")
        missing = sum(count(each) for each in tokens if each.insert)  # tokens that are not there yet
        mask = None
        for i, block in enumerate(blocks):
            of_this = block_weights(block, of_block.get(i))
            for each in entering[i]:
                start = 1 + each.offset
                if is_by_class(each):
                    assert apart is not None
                    x = _apart(x, each, apart, n_roots)
                    at, mask = apart.at, None
                    continue
                pairs, values = x.unflatten(0, (n_roots, -1)), each.values[:, None]
                if each.insert:
                    x = insert_tokens(pairs, values, start).flatten(0, 1)
                    missing, mask = missing - count(each), None
                else:
                    x = replace_tokens(pairs, values, start, each.kept).flatten(0, 1)
            # what enters the first block is the same under all roots, and mostly frozen: no gradient is needed there
            if i or entering[0]:
                qkv = project(of_this, x)
            else:
                qkv = _join(project(of_this, root), project(of_this, branch), groves)
            q, k, v = heads(block, qkv)
            ends_only = at.tokens is None and block is blocks[-1]
            if at.owner is None:
                padding = None if at.padding is None else at.padding[:, missing:]
                if ends_only:
                    x, q = x[:, at.ends], q[:, :, at.ends]
                attended = side_by_side(attend(attend_packed, q, k, v, at.groups, padding, ends_only))
            else:
                if mask is None:
                    mask = grove_mask(at.owner[:, missing:], q.dtype)
                attended = side_by_side(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
                if ends_only:
                    x, attended = (part.flatten(0, 1).index_select(0, at.summaries) for part in (x, attended))
            x = finish(block, of_this, x, attended)

        ln_final, projection = changed_norm(self.ln_final, "ln_final", weights), self.text_projection
        if projection is None:
            x = layer_norm(x, ln_final)
        elif isinstance(projection, nn.Linear) and "projection" not in weights:
            x = projection(layer_norm(x, ln_final, projection.weight.dtype))
        else:
            own = projection.weight if isinstance(projection, nn.Linear) else projection
            projection = changed_matrix(own, "projection", weights)
            x = linear(layer_norm(x, ln_final, projection.dtype), projection.t())
        rows = x.flatten(0, -2)
        selected = at.tokens is None and at.owner is not None
        summary = rows if selected else rows.index_select(0, at.summaries)
        summary = summary.unflatten(0, (-1, n_roots))
        if at.tokens is None:
            return TextFeatures(summary, None)
        outputs = rows.index_select(0, at.tokens).unflatten(0, (*summary.shape[:2], -1))
        if at.of_root is not None:  # all classes' gradients of these in one sum
            whole = rows.unflatten(0, (n_roots, -1))[:, : outputs.shape[2]]
            outputs = torch.where(at.of_root, whole, outputs)
        return TextFeatures(summary, outputs)


def check_entering(tokens: tuple[Tokens, ...], layout: Layout, depth: int) -> None:
    """Raise ValueError unless a forest of this layout takes these tokens."""
    by_block(tokens, depth, "text tower")
    length, last = min(layout.roots), -1
    for each in tokens:
        where = f"in front of block {each.block} of the text tower"
        end = 1 + each.offset + (0 if each.insert else count(each))
        if end > length:
            raise ValueError(
                f"{count(each)} tokens enter behind {each.offset} others {where}, the roots have {length - 1} there"
            )
        if each.block < last:
            raise ValueError(
                f"tokens enter {where} behind those of block {last}: their order is that of blocks"
            )
        if is_by_class(each) and (each.insert or each is not tokens[-1]):
            raise ValueError(
                f"tokens that differ by class {where} must replace others, and be the last that enter"
            )
        length, last = length + (count(each) if each.insert else 0), each.block


def _apart(x: Tensor, tokens: Tokens, apart: Split, n_roots: int) -> Tensor:
    """Rows in which each class has the rest of its roots for itself, with its own tokens in it."""
    rows = x.flatten(0, 1)
    moved = rows.index_select(0, apart.source)
    fresh = tokens.values.to(x.dtype).expand(-1, n_roots, -1, -1).flatten(0, 2)
    if tokens.kept:
        fresh = (1 - tokens.kept) * fresh + tokens.kept * moved.index_select(0, apart.own)
    length = len(apart.source) // n_roots if apart.at.owner is None else apart.at.owner.shape[1]
    return moved.index_copy(0, apart.own, fresh).unflatten(0, (-1, length))


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
