"""Which of the processes of a run this one is (torch.distributed), and its share of what they divide."""

from itertools import pairwise

import torch.distributed as dist


def count() -> int:
    """Number of processes; 1 where no process group has been initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0 on."""
    return dist.get_rank() if count() > 1 else 0


def shares(total: int) -> list[range]:
    """The parts of all processes of ``total`` things that stand in a row; they differ by one at most."""
    size, more = divmod(total, count())
    starts = [rank * size + min(rank, more) for rank in range(count() + 1)]
    return [range(start, end) for start, end in pairwise(starts)]


def share(total: int) -> range:
    """This process's part."""
    return shares(total)[rank()]
