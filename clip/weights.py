"""The weights of one block as its pass uses them: CLIP's own, or with what a method changes.

Changes are in CLIP's own terms. In lower precision QuickGELU's slope stands in some of a block's weights (see
``precision``); what is put in their place gets it here.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pad_sequence

from .changes import LowRank
from .linear import linear
from .precision import FACTORS, is_folded

Change = Tensor | LowRank
OfBlocks = dict[int, dict[str, Change]]
Values = TypeVar("Values", Tensor, LowRank)

#: Weights of a block and where they stand in it.
PLACES = {
    **{f"{name}.{kind}": f"attn.in_proj_{kind}" for name in ("qkv", "q", "k", "v") for kind in ("weight", "bias")},
    **{
        f"{name}.{kind}": f"{place}.{kind}"
        for name, place in (
            *(("o", "attn.out_proj"), ("fc", "mlp.c_fc"), ("proj", "mlp.c_proj")),
            *(("ln_1", "ln_1"), ("ln_2", "ln_2")),
        )
        for kind in ("weight", "bias")
    },
}  # fmt: skip
#: Those that take additions of low rank.
LOW_RANK = ("q.weight", "k.weight", "v.weight", "o.weight", "fc.weight", "proj.weight")
#: Which third of the packed ones.
THIRDS = {"q": 0, "k": 1, "v": 2}


class Norm(NamedTuple):
    weight: Tensor
    bias: Tensor
    eps: float


class Layer(NamedTuple):
    """W and b, and additions of low rank to equal shares of the outputs."""

    weight: Tensor
    bias: Tensor | None
    added: tuple[LowRank | None, ...] = ()


class BlockWeights(NamedTuple):
    ln_1: Any  # a Norm or torch's
    qkv: Layer
    o: Layer
    ln_2: Any
    fc: Layer
    proj: Layer


def affine(layer: Layer, x: Tensor) -> Tensor:
    """x W' + b and what is added: x (..., k) -> (..., n)."""
    y = linear(x, layer.weight, layer.bias)
    return with_low_rank(y, x, layer.added) if layer.added else y


def block_weights(block: Any, changes: Mapping[str, Change] | None = None) -> BlockWeights:
    """Those of a block; with what changes by their names in it, as grouped by ``of_blocks``."""
    attention, (widen, _, narrow) = block.attn, block.mlp
    out = attention.out_proj
    own = BlockWeights(
        block.ln_1,
        Layer(attention.in_proj_weight, attention.in_proj_bias),
        Layer(out.weight, out.bias),
        block.ln_2,
        Layer(widen.weight, widen.bias),
        Layer(narrow.weight, narrow.bias),
    )
    return _changed(block, own, changes) if changes else own


def _changed(block: Any, own: BlockWeights, changes: Mapping[str, Change]) -> BlockWeights:
    """Each part of the block with its changes."""
    factors = FACTORS if is_folded(block) else {}
    changes = {name: _folded(change, factors.get(name, 1.0)) for name, change in changes.items()}

    def layer(given: Layer, *names: str) -> Layer:
        weight = [changes.get(f"{name}.weight") for name in names]
        added = tuple(change if isinstance(change, LowRank) else None for change in weight)
        return Layer(
            _in_place(given.weight, [None if isinstance(change, LowRank) else change for change in weight]),
            _in_place(given.bias, [changes.get(f"{name}.bias") for name in names]),
            added if any(added) else (),
        )

    qkv = layer(layer(own.qkv, "qkv"), "q", "k", "v")
    return BlockWeights(
        changed_norm(own.ln_1, "ln_1", changes),
        qkv,
        layer(own.o, "o"),
        changed_norm(own.ln_2, "ln_2", changes),
        layer(own.fc, "fc"),
        layer(own.proj, "proj"),
    )


def changed_norm(given: Any, name: str, changes: Mapping[str, Any]) -> Any:
    """A norm with what changes by its name."""
    weight, bias = changes.get(f"{name}.weight"), changes.get(f"{name}.bias")
    if weight is None and bias is None:
        return given
    return Norm(_in_place(given.weight, [weight]), _in_place(given.bias, [bias]), given.eps)


def changed_matrix(given: Tensor, name: str, changes: Mapping[str, Any]) -> Tensor:
    """A tower's own matrix, or what is in its place, in the dtype of that."""
    return given if (change := changes.get(name)) is None else change.to(given.dtype)


def _in_place(given: Any, parts: list[Any]) -> Any:
    """A weight with those of its equal shares replaced that are not None."""
    if not any(part is not None for part in parts):
        return given
    shares = given.chunk(len(parts))
    both = [share if part is None else part.to(given.dtype) for share, part in zip(shares, parts)]
    return both[0] if len(both) == 1 else torch.cat(both)


def _folded(change: Change, factor: float) -> Change:
    if factor == 1.0:
        return change
    return change._replace(scale=change.scale * factor) if isinstance(change, LowRank) else change * factor


def with_low_rank(y: Tensor, x: Tensor, added: tuple[LowRank | None, ...]) -> Tensor:
    """y (..., n) and additions from x (..., k) to equal shares of it: two products for all of them."""
    parts = [part for part in added if part is not None]
    x, width, rank = x.detach() if parts[0].cut else x, y.shape[-1] // len(added), 0
    if any(part.dropout for part in parts):
        down = pad_sequence([part.down for part in parts], batch_first=True)  # (p, r, k)
        inner = _DroppedProduct.apply(x.flatten(0, -2), down.to(x.dtype), parts[0].dropout)
        rows, rank = inner.transpose(0, 1).flatten(1), down.shape[1]
    else:
        rows = F.linear(x.flatten(0, -2), torch.cat([part.down for part in parts]).to(x.dtype))
    ups = [y.new_zeros(width, 0) if part is None else _of_rank(part.scale * part.up, rank) for part in added]
    return torch.addmm(y.flatten(0, -2), rows, torch.block_diag(*ups).to(y.dtype).t()).view_as(y)


def _of_rank(up: Tensor, rank: int) -> Tensor:
    """(n, r), with columns of zeros up to a larger rank."""
    return up if up.shape[1] >= rank else F.pad(up, (0, rank - up.shape[1]))


class _DroppedProduct(torch.autograd.Function):
    """x (N, k) with each of p masks of its own, times down (p, r, k): (p, N, r). Of x and its masked copies x and the
    masks are kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, rate: float) -> Tensor:
        dropped, mask = torch.native_dropout(x.expand(len(down), -1, -1), rate, True)
        ctx.save_for_backward(x, mask, down)
        ctx.factor = 1 / (1 - rate)
        return dropped @ down.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, mask, down = ctx.saved_tensors
        gradient = gradient.to(x.dtype)  # autocast may have computed the product in another
        of_down = gradient.transpose(1, 2) @ (mask * x * ctx.factor)
        of_x = ((gradient @ down) * mask).sum(dim=0) * ctx.factor if ctx.needs_input_grad[0] else None
        return of_x, of_down, None


def of_blocks(weights: Mapping[str, Change], outside: tuple[str, ...], depth: int, tower: str) -> OfBlocks:
    """Changes of a tower's weights for each of its blocks, by their names there; those ``outside`` of blocks left out.

    Raises:
        ValueError: a name is none of the tower's, or an addition of low rank is one to a vector.
    """
    found: OfBlocks = defaultdict(dict)
    for name, change in weights.items():
        head, _, rest = name.partition(".")
        number, _, place = rest.partition(".")
        known = head == "blocks" and number.isdecimal() and int(number) < depth and place in PLACES
        if not known and name not in outside:
            some = ", ".join((*outside, *(f"blocks.0.{place}" for place in PLACES)))
            raise ValueError(f"weight {name!r} is none of the {tower}'s, blocks are 0 to {depth - 1}: {some}")
        if isinstance(change, LowRank) and (not known or place not in LOW_RANK):
            raise ValueError(
                f"weight {name!r} takes no addition of low rank, these do: {', '.join(LOW_RANK)}"
            )
        if known:
            found[int(number)][place] = change
    return found


def own_weight(block: Any, name: str) -> Tensor:
    """A block's weight by its name, in fp32 and CLIP's own terms."""
    value = block.get_parameter(PLACES[name]).detach().float()
    part = THIRDS.get(name.partition(".")[0])
    if part is not None:
        value = value.chunk(3)[part]
    return value / FACTORS.get(name, 1.0) if is_folded(block) else value


@torch.no_grad()
def merged(
    blocks: Any, weights: Mapping[str, Change], outside: tuple[str, ...], tower: str
) -> dict[str, Change]:
    """The same changes without additions: tensors in place of weights, for passes without a gradient."""
    done = {name: weights[name] for name in outside if name in weights}
    for number, changes in of_blocks(weights, outside, len(blocks), tower).items():
        block, low = blocks[number], [name for name, change in changes.items() if isinstance(change, LowRank)]

        def whole(
            name: str, given: Tensor | None = None, block: Any = block, changes: Any = changes
        ) -> Tensor:
            change = changes.get(name)
            if isinstance(change, Tensor):
                return change
            own = own_weight(block, name) if given is None else given
            return own if change is None else own + change.product()

        resolved = {name: whole(name) for name in changes}
        thirds = [f"{third}.weight" for third in THIRDS]
        if any(name in low for name in thirds):
            parts = zip(thirds, whole("qkv.weight").chunk(3))
            resolved["qkv.weight"] = torch.cat([whole(name, part.float()).float() for name, part in parts])
            resolved = {name: value for name, value in resolved.items() if name not in thirds}
        for name, value in resolved.items():
            once = name in (*low, "qkv.weight") and name not in FACTORS  # cast now, and not in every pass
            done[f"blocks.{number}.{name}"] = (
                value.to(block.get_parameter(PLACES[name]).dtype) if once else value
            )
    return done
