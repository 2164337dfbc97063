"""A DataLoader whose batches depend on the global random states at an epoch's start, and on nothing else.

Not on the number of workers, nor on what a worker did before: when an epoch begins, the main process draws a
seed and the order of the images; each image is then read and augmented under random states made from that
seed and its place in the epoch. So a run that restores the global states at an epoch's start repeats the
epoch bit by bit.

Nor on the number of processes that share the batches (torchrun): all draw the same epoch. In training each takes its
part of every batch, in evaluation whole batches in turn.
"""

import copy
import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from dassl.utils import collectives
from foundation.errors import is_ours, worker_report

from .handover import Handover

__all__ = ["EpochLoader"]

CHECKOUT = Path(__file__).resolve().parents[2]
PREFETCH = 2  # batches that a worker prepares ahead, torch's default; one more is being taken from it


class EpochLoader(DataLoader):
    """See the module's docstring. Workers live from epoch to epoch, until ``end_workers``.

    Args:
        dataset: any map-style data set; it may use the global random states freely. Its method
            ``before_workers``, where it has one, is called in the main process before workers start.
        sampler: draws from the global random states when it is iterated.
        num_workers: fewer are started where the shared memory has no room for the batches of all.
        image_shape: (3, H, W) of the images, for a data set of images.
        views: how many images an item has.
        whole_batches: of several processes each gets some batches, not some images of each.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        sampler: Sampler[int],
        num_workers: int = 0,
        drop_last: bool = False,
        pin_memory: bool = False,
        image_shape: tuple[int, ...] = (),
        views: int = 1,
        whole_batches: bool = False,
    ):
        bytes_each = 1 if getattr(dataset, "leaves_unfinished", False) else 4
        image_bytes = math.prod(image_shape) * bytes_each if image_shape else 0
        num_workers = _workers_that_fit(num_workers, batch_size * views * image_bytes)
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            drop_last=drop_last,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            # torch seeds its workers from this; a loader without one would take from the global state, and
            # only when it starts its workers.
            generator=torch.Generator(),
        )
        self._epoch = _Epoch(BatchSampler(sampler, batch_size, drop_last), whole_batches)
        self._sent: list[Any] = []
        self._image_shape = image_shape
        self._handover: Handover | None = None

    def __len__(self) -> int:
        return len(self._epoch)

    @property
    def batches_of_all(self) -> int:
        """Different batches of all processes together."""
        return len(self._epoch.batch_sampler)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self.behind(0)

    def behind(self, batches: int) -> Iterator[Any]:
        """An epoch, drawn as always, without its first ``batches``, whose images are not read."""
        if self._iterator is not None and self._dataset_changed():
            self.end_workers()  # they hold the data set as it was; new ones are started
        self._epoch.draw()
        self._epoch.first = batches
        return _Batches(super().__iter__(), self, len(self) - batches)

    def end_workers(self) -> None:
        """End the workers; an epoch that begins later starts new ones.

        Left to the garbage collector, each takes five seconds: the collector closes the queue over which torch tells a
        worker to end before it calls torch, which then waits in vain.
        """
        iterator: Any = self._iterator
        if iterator is not None:
            iterator._shutdown_workers()
            self._iterator = None

    def _get_iterator(self) -> Any:
        if hasattr(self.dataset, "before_workers"):
            self.dataset.before_workers()
        # torch's iterators see the seeded data set and its (index, seed) pairs; whoever looks at the loader
        # sees the data set and the sampler that it was given.
        self._sent = self._attributes()
        seen_by_torch = copy.copy(self)
        dataset: Any = self.dataset
        read = dataset.__getitem__
        self._handover = None
        if getattr(dataset, "leaves_unfinished", False):
            read = dataset.unfinished_item
            slots = (self.num_workers, PREFETCH + 1, self._epoch.batch_sampler.batch_size)
            self._handover = Handover(dataset, (*slots, *self._image_shape), self.pin_memory)
            vars(seen_by_torch).update(collate_fn=self._handover, pin_memory=False)  # it pins what it unpacks
        vars(seen_by_torch).update(dataset=_Seeded(dataset, read), batch_sampler=self._epoch)
        return DataLoader._get_iterator(seen_by_torch)

    def _attributes(self) -> list[Any]:
        """Of the data set, and the items of its lists, which a program may reorder in place."""
        values = list(getattr(self.dataset, "__dict__", {}).values())
        return [*values, *(item for value in values if isinstance(value, list) for item in (len(value), *value))]

    def _dataset_changed(self) -> bool:
        now = self._attributes()
        return len(now) != len(self._sent) or any(a is not b for a, b in zip(now, self._sent))


class _Epoch:
    """This process's batches of an epoch: lists of (index, (seed of the epoch, place in the epoch))."""

    def __init__(self, batch_sampler: BatchSampler, whole_batches: bool):
        self.batch_sampler = batch_sampler
        self.whole_batches = whole_batches
        self.first = 0  # batches before it are left out

    def draw(self) -> None:
        self.seed = int(torch.empty((), dtype=torch.int64).random_())
        self.batches = list(self.batch_sampler)

    def __iter__(self) -> Iterator[list[tuple[int, tuple[int, int]]]]:
        starts = accumulate(map(len, self.batches), initial=0)
        return islice(self._pairs(self.seed, list(zip(starts, self.batches))), self.first, None)

    def _pairs(
        self, seed: int, batches: list[tuple[int, list[int]]]
    ) -> Iterator[list[tuple[int, tuple[int, int]]]]:
        if self.whole_batches:
            # Where the last round has no batch left, the last one again: the trainer's test() leaves it out.
            last, count = len(batches) - 1, collectives.count()
            batches = [batches[min(i + collectives.rank(), last)] for i in range(0, len(batches), count)]
        for start, batch in batches:
            first, own = (0, batch) if self.whole_batches else collectives.share(batch)
            yield [(index, (seed, start + first + i)) for i, index in enumerate(own)]

    def __len__(self) -> int:
        batches = len(self.batch_sampler)
        return math.ceil(batches / collectives.count()) if self.whole_batches else batches


class _Seeded(Dataset):
    """A data set whose items are made under random states of their own."""

    def __init__(self, dataset: Any, read: Callable[[int], Any]):
        self.dataset = dataset
        self.read = read

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, pairs: list[tuple[int, tuple[int, int]]]) -> list[Any]:
        items = []
        with _states_of_before_come_back():
            for index, entropy in pairs:
                _seed(entropy)
                items.append(self.read(index))
        return items


@contextmanager
def _states_of_before_come_back() -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch (CPU) at the end; once for a batch, for they are large."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.default_generator.set_state(before[2])


def _seed(entropy: tuple[int, ...]) -> None:
    """Make random states of Python, NumPy and PyTorch (CPU) from ``entropy``."""
    for_python, for_numpy, for_torch = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(for_python))
    np.random.seed(for_numpy)  # noqa: NPY002
    torch.default_generator.manual_seed(int(for_torch))  # torch.manual_seed would seed the GPU's too


class _Batches(_BaseDataLoaderIter):
    """torch's iterator, whose further attributes it shows, with batches as they are used.

    An error that this checkout's code raised in a worker comes out as it was raised; any error ends all workers, for its
    traceback holds this iterator, and so the garbage collector would end them.
    """

    def __init__(self, iterator: Any, loader: EpochLoader, count: int) -> None:
        self._iterator, self._loader, self._handover, self._count = iterator, loader, loader._handover, count

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_iterator"], name)

    def __len__(self) -> int:
        return self._count

    def __next__(self) -> Any:
        try:
            batch = next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:
            self._loader.end_workers()
            report = worker_report(error) if isinstance(error, (ValueError, OSError)) else None
            if report is None or not report.statement.startswith("raise ") or not is_ours(report.file, [CHECKOUT]):
                raise  # a bug: the worker's traceback is what one wants to see
            raise type(error)(report.message) from None
        return self._handover.unpack(batch) if self._handover else batch


def _workers_that_fit(num_workers: int, batch_bytes: int) -> int:
    """Workers hand batches over in shared memory; where it is full, they die of a bus error."""
    if num_workers == 0 or batch_bytes == 0:
        return num_workers
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:  # not Linux
        return num_workers
    fitting = min(num_workers, free // (2 * (PREFETCH + 1) * batch_bytes))  # half is left to others
    if fitting < num_workers:
        print(f"* shared memory (/dev/shm) has room for {fitting} data loader workers, not {num_workers}")
    return fitting
