"""The operations that one training step sends to a GPU, counted without one, at true ViT-B/16 size.

    python benchmarks/dispatched.py --methods MMTPA --classes 100 1000 --precision bf16

Forward pass, backward pass and optimiser run on fake tensors, which have shapes and no values, and torch's dispatcher
counts what would launch kernels: everything that makes a new tensor or writes into one, views left out. An operation is
a launch or a few (a sum over many elements, a gather's gradient), so these are counts and no times. The text tower is
in the form that it has on a GPU; the transport is its fused operators, each of which counts as one: what they launch is
in docs/transport.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import runs  # noqa: F401  makes the checkout importable from any folder
from benchmarks.cell import Cell, add_arguments, build, cell_of
from clip import linear
from clip.arrangement import arrange
from clip.text_prompts import selection

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mkldnn_rnn_layer", "convolution"}


@dataclass
class Dispatched:
    """What was sent.

    Attributes:
        operations: by name.
        copies: those of them that only move values: copies, concatenations, gathers.
        casts: copies to another dtype.
        frozen_casts: those of them whose source is a frozen weight.
        products: shapes of matrix products, ``(m, k) (k, n)`` or with the batch in front.
        waits: those that need a value on the host.
        kept: bytes of what the backward pass needs, without weights.
    """

    operations: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    casts: Counter[str] = field(default_factory=Counter)
    frozen_casts: int = 0
    products: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    kept: int = 0

    @property
    def total(self) -> int:
        return self.operations.total()


#: Operations that move values and compute nothing.
MOVES = {
    *("clone", "copy_", "cat", "stack", "index_select", "index", "repeat", "contiguous", "slice_scatter"),
    *("index_copy", "constant_pad_nd", "slice_backward", "select_backward", "embedding", "new_zeros"),
}
#: Those that make no kernel run.
NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "detach"}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2"}


class Counting(TorchDispatchMode):
    """Counts the operations that are dispatched while it is active.

    Args:
        frozen: weights whose casts are counted by themselves.
    """

    def __init__(self, frozen: list[Tensor] | None = None) -> None:
        super().__init__()
        self.seen = Dispatched()
        self._frozen = {weight.untyped_storage()._cdata for weight in frozen or []}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.seen.waits[name] += 1
        results = [part for part in tree_leaves(out) if isinstance(part, Tensor)]
        if (
            func.namespace == "prim"
            or func.is_view
            or name in NOTHING
            or not (results or func._schema.is_mutable)
        ):
            return out
        given = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
        if results and not func._schema.is_mutable and all(any(r is g for g in given) for r in results):
            return out
        self.seen.operations[name] += 1
        if name == "_to_copy" and results[0].dtype != given[0].dtype:
            self.seen.casts[f"{given[0].dtype} to {results[0].dtype}".replace("torch.", "")] += 1
            self.seen.frozen_casts += given[0].untyped_storage()._cdata in self._frozen
        elif name in MOVES or name == "_to_copy":
            self.seen.copies[name] += 1
        if name in PRODUCTS:
            matrices = [tuple(part.shape) for part in given if part.dim() >= 2][-2:]
            self.seen.products[" ".join(map(str, matrices))] += 1
        return out


def on_fake_tensors(model: Any, mode: FakeTensorMode) -> None:
    """Turn a model's and its frozen towers' tensors into fake ones."""
    fake: dict[Tensor, Any] = {}
    for top in (model, model.clip):
        for module in top.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    if weight not in fake:
                        like = mode.from_tensor(weight.detach())
                        fake[weight] = nn.Parameter(like, requires_grad=weight.requires_grad)
                    module._parameters[name] = fake[weight]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = mode.from_tensor(buffer)
    for name, value in vars(model).items():
        if isinstance(value, Tensor):
            setattr(model, name, mode.from_tensor(value))


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """The choices that the code makes by device are those for a GPU."""
    with (
        patch.dict(os.environ, TRITON_INTERPRET="1"),
        patch.object(torch.cuda, "get_device_capability", lambda device=None: (9, 0)),
        patch.object(FakeTensor, "is_cuda", True, create=True),
        patch.object(linear, "is_imitated", lambda dtype: False),
    ):
        yield


def count(cell: Cell, settings: Sequence[str] = ()) -> Dispatched:
    """The operations of one step of a cell, with KEY VALUE pairs of the method's."""
    model, autocast = build(cell, settings=settings)
    return count_step(model, autocast, cell.batch, cell.classes)


def count_step(model: Any, autocast: Callable[[], Any], batch: int, classes: int) -> Dispatched:
    """Forward pass, backward pass and SGD of a model, whose tensors become fake ones."""
    mode = FakeTensorMode()
    model.clip.text.packed = False
    model.class_texts.chunk = classes  # no memory to measure
    on_fake_tensors(model, mode)
    for looked_up in (arrange, selection):
        looked_up.cache_clear()
    with mode, as_on_a_gpu():
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, foreach=True)
        images = torch.randn(batch, 3, *model.clip.image.image_size)
        labels = torch.randint(classes, (batch,))

        def step() -> None:
            optimiser.zero_grad()
            with autocast():
                losses = (
                    model.losses(images, labels)[:2]
                    if hasattr(model, "losses")
                    else [model.loss(images, labels)[0]]
                )
            for i, loss in enumerate(losses):
                loss.backward(retain_graph=i + 1 < len(losses))
            optimiser.step()

        step()  # momentum and what is looked up are there from now on
        weights = [*model.clip.parameters(), *model.parameters()]
        sizes = {weight.untyped_storage()._cdata: 0 for weight in weights}
        kept = []  # alive to the end, so that no storage is taken for another

        def note(tensor: Tensor) -> Tensor:
            kept.append(tensor)
            sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
            return tensor

        with (
            Counting(list(model.clip.parameters())) as counting,
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            step()
    for looked_up in (arrange, selection):
        looked_up.cache_clear()  # it is fake
    counting.seen.kept = sum(sizes.values())
    return counting.seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["MMTPA", "CoOp", "MaPLe"])
    parser.add_argument("--classes", nargs="+", type=int, default=[100])
    parser.add_argument("--products", action="store_true", help="also the shapes of the matrix products")
    add_arguments(parser, batch=4)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="settings; last"
    )
    args = parser.parse_args()
    print(
        "| method | classes | operations | products | copies | casts | of frozen weights | waits | kept GiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for method in args.methods:
        for classes in args.classes:
            seen = count(cell_of(args, method, classes, plain=False), args.opts)
            columns = (
                *(method, classes, seen.total, seen.products.total()),
                *(seen.copies.total(), seen.casts.total(), seen.frozen_casts, seen.waits.total()),
                f"{seen.kept / 2**30:.2f}",
            )
            print("|", " | ".join(map(str, columns)), "|", flush=True)
            if args.products:
                for kind in ("operations", "copies", "casts", "products", "waits"):
                    print(kind, getattr(seen, kind).most_common(30))


if __name__ == "__main__":
    main()
