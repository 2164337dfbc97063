"""The operations that a step must do: those of the positions that the loss depends on, and of nothing else.

Multiplications and additions of matrix products (2 m n k), counted by hand and not by running the code that is
measured; of changes, those of prompts and their replacements. A gradient with respect to the input costs what the
forward pass does; attention's costs twice as much. Frozen weights need none, and neither does what enters the first
block frozen.
"""

from typing import Any

from torch import Tensor

from clip import NONE, Changes, ImageTower, TextPrompts, TextTower

_QKV, _Q, _KV, _REST = (
    6,
    2,
    4,
    18,
)  #: operations of a position in a block / w^2: projections; the output and the MLP


def image_operations(
    tower: ImageTower,
    images: Tensor,
    changes: Changes = NONE,
    tokens: bool = False,
) -> float:
    """Of a plain ViT's forward pass on images (B, 3, H, W), and of the gradient for prompts that want one."""
    prompts = changes.prompts
    visual: Any = tower.visual
    w, d = visual.proj.shape
    n_images, depth = len(images), len(visual.transformer.resblocks)
    patches = visual.positional_embedding.shape[0]
    n_prompts = 0 if prompts is None else prompts.shape[1]
    copies = 1 if prompts is None else len(prompts)
    length, texts = patches + n_prompts, n_images * copies
    embedding = 2 * n_images * (patches - 1) * visual.conv1.weight.numel()

    def blocks(first_projected: int, attention: float) -> float:
        positions = texts * length
        whole = depth if tokens else depth - 1
        linear = first_projected * _QKV + (depth - 1) * positions * _QKV + whole * positions * _REST
        mixing = whole * texts * length**2 * 4
        if not tokens:  # the class token alone asks in the last block
            linear += texts * (_REST + _Q) - positions * _Q
            mixing += texts * length * 4
        return linear * w**2 + attention * mixing * w + 2 * texts * (length if tokens else 1) * w * d

    forward = embedding + blocks(n_images * patches + copies * n_prompts, attention=1)
    wanted = any(part.requires_grad for part in changes.tensors())
    return forward + (blocks(copies * n_prompts, attention=2) if wanted else 0)


def text_operations(tower: TextTower, prompts: TextPrompts, changes: Changes = NONE) -> float:
    """Of the forward pass on a forest of texts, and of the gradient for prompts that want one."""
    layout, w, depth = prompts.layout, tower.width, tower.depth
    d = tower.text_projection.shape[1]
    summary_only = not layout.tokens
    n_roots, n_classes = len(layout.roots), len(layout.branches)
    lengths = [end + 1 for end in layout.ends] if summary_only else list(layout.branches)
    shared, own = sum(layout.roots), n_roots * sum(lengths)
    same_positions = len(set(layout.roots)) == 1 and prompts.branch.dim() == 2
    pairs = sum(
        root * (root + 1) / 2 + sum(n * root + n * (n + 1) / 2 for n in lengths) for root in layout.roots
    )
    pairs_of_ends = sum(root + n for root in layout.roots for n in lengths)
    read_out = n_roots * n_classes if summary_only else shared + own

    def blocks(first_projected: int, attention: float) -> float:
        positions = shared + own
        whole = depth - 1 if summary_only else depth
        linear = first_projected * _QKV + (depth - 1) * positions * _QKV + whole * positions * _REST
        mixing = whole * pairs * 4
        if summary_only:
            linear += n_roots * n_classes * (_REST + _Q) - positions * _Q
            mixing += pairs_of_ends * 4
        return linear * w**2 + attention * mixing * w + 2 * read_out * w * d

    forward = blocks(shared + (own // n_roots if same_positions else own), attention=1)
    wanted = any(part.requires_grad for part in (prompts.root, prompts.branch, *changes.tensors()))
    return forward + (blocks(shared, attention=2) if wanted else 0)


def transport_operations(
    image_tokens: Tensor | None, text_tokens: Tensor | None, lengths: Tensor | None
) -> float:
    """Of the token level's products: similarities (B M P) x (C N L), and their gradients for both sides."""
    if image_tokens is None or text_tokens is None:
        return 0
    n_classes, n_prompts, longest, d = text_tokens.shape
    words = n_prompts * (n_classes * longest if lengths is None else int(lengths.sum()))
    wanted = 1 + image_tokens.requires_grad + text_tokens.requires_grad
    return 2 * image_tokens[..., 0].numel() * words * d * wanted
