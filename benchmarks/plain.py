"""What published prompt-learning code does, for measuring against.

Every class text at all 77 positions with a dense mask, every block at all positions, each image once per visual prompt
from the pixels on, a loop over images and classes around the transport, CoCoOp image by image. The blocks are
open_clip's own modules, the results are those of the efficient towers.
"""

from typing import Any

import torch
from torch import Tensor, nn

from alignment import hierarchical_transport
from clip import NONE, Changes, ImageFeatures, ImageTower, Tap, TextFeatures, TextPrompts, TextTower
from clip.changes import is_by_class


class PlainTextTower(TextTower):
    """R x C texts of 77 positions each, by the modules of a tower."""

    def __init__(self, tower: TextTower) -> None:
        nn.Module.__init__(self)
        self.stream, self.packed = tower.stream, False
        for name, part in (*tower.named_children(), *tower.named_parameters(recurse=False)):
            setattr(self, name, part)

    def forward(self, prompts: TextPrompts, changes: Changes = NONE) -> TextFeatures:
        deep = replacements(changes)
        layout = prompts.layout
        n_classes, n_roots = len(layout.branches), len(layout.roots)
        length = self.context_length
        padding = self.embed([0])
        texts = []
        for own in prompts.branch.split(layout.branches, dim=-2):
            for r, (root, n_shared) in enumerate(zip(prompts.root, layout.roots)):
                text = torch.cat([root[:n_shared], own if own.dim() == 2 else own[r]])[:length]
                texts.append(torch.cat([text, padding.expand(length - len(text), -1)]))
        x = (torch.stack(texts) + self.positional_embedding).to(self.stream)
        mask = torch.full((length, length), -torch.inf, device=x.device).triu(1)
        for i, block in enumerate(self.transformer.resblocks):
            if i in deep:
                fresh = deep[i].to(x.dtype).repeat(n_classes, 1, 1)
                x = torch.cat([x[:, :1], fresh, x[:, 1 + fresh.shape[1] :]], dim=1)
            x = block(x, attn_mask=mask)
        x = self.ln_final(x) @ self.text_projection.to(x.dtype)
        x = x.unflatten(0, (n_classes, n_roots))
        ends = torch.tensor([[root + end for root in layout.roots] for end in layout.ends], device=x.device)
        summary = x.gather(2, ends[:, :, None, None].expand(-1, -1, 1, x.shape[-1]))[:, :, 0]
        return TextFeatures(summary, x[:, :, : max(layout.tokens)] if layout.tokens else None)


class PlainImageTower(ImageTower):
    """A plain ViT on M copies of every image."""

    def forward(self, images: Tensor, changes: Changes = NONE, tokens: bool | Tap = False) -> ImageFeatures:
        prompts, deep = changes.prompts, replacements(changes)
        visual, dtype = self.visual, self.stream
        copies = 1 if prompts is None else len(prompts)
        pixels = images.to(self._dtype()).repeat_interleave(copies, dim=0)
        x = visual.conv1(pixels).flatten(2).transpose(1, 2).to(dtype)
        start = visual.class_embedding.to(dtype).expand(len(x), 1, -1)
        x = torch.cat([start, x], dim=1) + visual.positional_embedding.to(dtype)
        if prompts is not None:
            x = torch.cat([x, prompts.to(dtype).repeat(len(images), 1, 1)], dim=1)
        x = visual.ln_pre(x)
        for i, block in enumerate(visual.transformer.resblocks):
            if i in deep:
                fresh = deep[i].to(x.dtype).repeat(len(images), 1, 1)
                x = torch.cat([x[:, : -fresh.shape[1]], fresh], dim=1)
            x = block(x)
        x = (visual.ln_post(x) @ visual.proj.to(x.dtype)).unflatten(0, (-1, copies))
        return ImageFeatures(x[:, :, 0], x[:, :, 1:] if tokens else None)


def replacements(changes: Changes) -> dict[int, Tensor]:
    """Block -> the prompts that replace those in front of it.

    Raises:
        ValueError: other changes, of which there is no plain implementation.
    """
    others = any(each.insert or each.kept or each.offset or is_by_class(each) for each in changes.tokens)
    if others or changes.weights:
        raise ValueError("of the plain implementation there are prompts and their replacements only")
    return {each.block: each.values for each in changes.tokens}


def plain_transport(
    image_points: Tensor,
    text_points: Tensor,
    image_tokens: Tensor | None = None,
    text_tokens: Tensor | None = None,
    text_lengths: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """hierarchical_transport of one image and one class at a time."""
    rows = []
    for b in range(len(image_points)):
        row = []
        for c in range(len(text_points)):
            tokens, words, lengths = image_tokens, text_tokens, None
            if tokens is not None and words is not None:
                lengths = None if text_lengths is None else text_lengths[c : c + 1]
                length = words.shape[2] if lengths is None else int(lengths.max())
                tokens, words = tokens[b : b + 1], words[c : c + 1, :, :length]
            points = image_points[b : b + 1], text_points[c : c + 1]
            row.append(hierarchical_transport(*points, tokens, words, lengths, **options)[0, 0])
        rows.append(torch.stack(row))
    return torch.stack(rows)


def make_plain(model: Any) -> None:
    """Turn a method's model into what published code does; its results stay the same."""
    from trainers import cocoop

    clip = model.clip
    clip.image = PlainImageTower(clip.image.visual, clip.image.stream)
    clip.text = model.class_texts.tower = PlainTextTower(clip.text)
    if hasattr(model, "transport"):
        model.transport = plain_transport
    if isinstance(model, cocoop.CoCoOpModel):
        score = model._score_some

        def one_by_one(features: Tensor, contexts: Tensor) -> Tensor:
            return torch.cat([score(f[None], c[None]) for f, c in zip(features, contexts)])

        model._score_some = one_by_one  # type: ignore[method-assign]
