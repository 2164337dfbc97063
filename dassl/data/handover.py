"""How a batch of images gets from a worker to the main process: as bytes, in memory that is used over and over.

A batch of 32 floating point images of 224 x 224 pixels has 19 MB, and new shared memory of that size for each
batch, which torch's DataLoader makes, costs more time than reading and augmenting small images. So workers hand
over 8-bit pixels, in shared memory that is made once, and the main process makes floats of them and normalises
them, a batch at a time: the same values with a fraction of the work.
"""

from typing import Any, NamedTuple

import torch
from torch.utils.data import default_collate, get_worker_info

__all__ = ["Handover"]


class Packed(NamedTuple):
    """A batch on its way: its 8-bit images, or where they lie in the shared memory, and all else of its items."""

    images: torch.Tensor | tuple[int, int]
    rest: list[dict[str, Any]]


class Handover:
    """Packs batches in the workers and unpacks them in the main process.

    Args:
        dataset: has ``unfinished_item(index)``, an item with uint8 "img" (3, H, W), and ``finish(images)``, which
            turns a batch of them, as floats, into the final ones in place.
        shape: of the shared memory, (workers, slots, B, 3, H, W), with a slot more than a worker has batches on
            their way at a time. Images of another size travel as torch sends tensors.
        pin_memory: unpack into pinned memory.
    """

    def __init__(self, dataset: Any, shape: tuple[int, ...], pin_memory: bool):
        self.dataset = dataset
        self.pin_memory = pin_memory
        self.memory = torch.empty(shape, dtype=torch.uint8).share_memory_()
        self.slot = 0  # a worker's own

    def __call__(self, items: list[dict[str, Any]]) -> Packed:
        """Collate unfinished items."""
        images = [item.pop("img") for item in items]
        worker = get_worker_info()
        if worker is None or any(image.shape != self.memory.shape[3:] for image in images):
            return Packed(torch.stack(images), items)
        self.slot = (self.slot + 1) % self.memory.shape[1]
        torch.stack(images, out=self.memory[worker.id, self.slot, : len(images)])
        return Packed((worker.id, self.slot), items)

    def unpack(self, packed: Packed) -> dict[str, Any]:
        """The batch, as torch would have collated the finished items."""
        images = packed.images
        if not isinstance(images, torch.Tensor):
            worker, slot = images
            images = self.memory[worker, slot, : len(packed.rest)]
        floats = torch.empty(images.shape, pin_memory=self.pin_memory).copy_(images)
        batch = default_collate(packed.rest)
        if self.pin_memory:
            batch = {
                key: value.pin_memory() if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }
        return batch | {"img": self.dataset.finish(floats)}
