"""One model in several processes (torch.distributed): what each computes, and how it becomes one gradient.

Every process has its share of the batch's images and its share of the class texts. It encodes its texts, gets those of
the others with ``gather``, and scores its images against all classes. Its loss is the mean over its images times
``share_of_batch``, so the losses add up to the mean over the batch, and so do the gradients: behind ``gather`` stand
all processes' losses, hence its backward pass adds up theirs for the process that encoded the text. Adding up the
parameters' gradients, which ``add_up`` does, then counts every path from a parameter to the loss once.

All functions do nothing where there is one process.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from foundation.processes import count, share, shares


def gather(rows: Tensor, total: int) -> Tensor:
    """All ``total`` rows, from every process its ``share`` of them; gradients flow back to whose rows they are."""
    return rows if count() == 1 else _Gather.apply(rows, total)


def gather_all(rows: Tensor) -> Tensor:
    """All rows, where every process has its ``share`` of them."""
    return gather(rows, int(total(torch.tensor(len(rows), device=rows.device))))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, total: int) -> Tensor:
        ctx.total = total
        parts_of_all = shares(total)
        longest = len(parts_of_all[0])
        sent = rows.new_zeros(longest, *rows.shape[1:])  # all send equally many
        sent[: len(rows)] = rows
        received = [torch.empty_like(sent) for _ in parts_of_all]
        dist.all_gather(received, sent)
        return torch.cat([part[: len(own)] for part, own in zip(received, parts_of_all)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        [gradient] = gradients
        summed = total(gradient.float())  # in fp32, whatever the tower runs in
        own = share(ctx.total)
        return summed[own.start : own.stop].to(gradient.dtype), None


def total(values: Tensor) -> Tensor:
    """The sum over all processes, without gradient."""
    values = values.detach()
    if count() > 1:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values)
    return values


def all_of(fine: bool) -> bool:
    """Whether it is so in all processes."""
    return fine if count() == 1 else int(total(torch.tensor(int(fine)))) == count()


def share_of_batch(images: int, device: torch.device) -> Tensor | float:
    """The part of the batch's images that this process has."""
    if count() == 1:
        return 1.0
    own = torch.full((), float(images), device=device)  # filled there, not copied
    return own / total(own)


def add_up(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The sums over all processes of fp32 gradients, which every process gives in the same order."""
    if count() == 1 or not gradients:
        return list(gradients)
    together = total(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = together.split([gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients)]


def add_up_gradients(parameters: Iterable[Tensor]) -> None:
    """``add_up`` for the parameters that have a gradient."""
    having = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter, gradient in zip(having, add_up([p.grad for p in having if p.grad is not None])):
        parameter.grad = gradient


def collect(thing: Any) -> list[Any]:
    """The plain data of all processes, in their order."""
    things = [thing] * count()
    if count() > 1:
        dist.all_gather_object(things, thing)
    return things


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Set all processes' tensors to those of the first one."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)
