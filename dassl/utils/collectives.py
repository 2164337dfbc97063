"""Which of the processes of a run this one is (torch.distributed, started by torchrun), and what only one does.

All functions take a process for the only one where no process group has been initialised.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from foundation import processes
from foundation.processes import count, rank

Thing = TypeVar("Thing")


def is_first() -> bool:
    """Whether this is the process that prints and writes files."""
    return rank() == 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        dist.barrier()


@contextmanager
def first_goes_first() -> Iterator[None]:
    """The others enter the body when the first process has left it: they find the files that it wrote."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def share(things: Sequence[Thing]) -> tuple[int, Sequence[Thing]]:
    """This process's part of a row of things, and where it begins; parts differ in length by one at most."""
    own = processes.share(len(things))
    return own.start, things[own.start : own.stop]


def collect(tensor: Any) -> list[Any]:
    """The tensors of all processes, in their order; they may differ in the length of the first dimension.

    Named tuples of tensors become named tuples again.
    """
    if count() == 1:
        return [tensor]
    if isinstance(tensor, tuple):
        return [type(tensor)(*parts) for parts in zip(*map(collect, tensor))]
    lengths = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(count())]
    dist.all_gather(lengths, torch.tensor([len(tensor)], device=tensor.device))
    longest = int(max(lengths))
    sent = tensor.new_zeros(longest, *tensor.shape[1:])
    sent[: len(tensor)] = tensor
    received = [torch.empty_like(sent) for _ in lengths]
    dist.all_gather(received, sent)
    return [part[: int(length)] for part, length in zip(received, lengths)]
