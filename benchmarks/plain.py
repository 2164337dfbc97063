"""What published prompt-learning code does, for measuring against: every class text at all 77 positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clip import TextFeatures, TextPrompts, TextTower
from clip.blocks import finish, heads, layer_norm


class PlainTextTower(TextTower):
    """R x C texts of 77 positions each, all blocks at all positions; the same results as TextTower."""

    def forward(self, prompts: TextPrompts, deep: Tensor | None = None) -> TextFeatures:
        layout = prompts.layout
        texts = [
            torch.cat([root[:length], own])
            for own in prompts.branch.split(layout.branches)
            for root, length in zip(prompts.root, layout.roots)
        ]
        n_classes, n_roots = len(layout.branches), len(layout.roots)
        padding = self.embed([0])
        x = torch.stack(
            [torch.cat([text, padding.expand(self.context_length - len(text), -1)]) for text in texts]
        )
        x = (x + self.positional_embedding).to(self.transformer.get_cast_dtype())
        for i, block in enumerate(self.transformer.resblocks):
            if deep is not None and 0 < i <= len(deep):
                fresh = deep[i - 1].to(x.dtype).repeat(n_classes, 1, 1)
                x = torch.cat([x[:, :1], fresh, x[:, 1 + fresh.shape[1] :]], dim=1)
            q, k, v = heads(block, x)
            x = finish(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        x = layer_norm(x, self.ln_final) @ self.text_projection.to(x.dtype)
        x = x.unflatten(0, (n_classes, n_roots))
        ends = torch.tensor([[root + end for root in layout.roots] for end in layout.ends])
        summary = x.gather(2, ends[:, :, None, None].expand(-1, -1, 1, x.shape[-1]))[:, :, 0]
        return TextFeatures(summary, x[:, :, : max(layout.tokens)] if layout.tokens else None)
