"""The best classes of every image, where logits come in chunks of classes and all of them would be too many to keep."""

from typing import NamedTuple

import torch
from torch import Tensor


class TopClasses(NamedTuple):
    """The k best classes of each image, best first; of equal ones the first class, as with ``Tensor.argmax``.

    Answers what an evaluator asks of logits (B, C): ``argmax``, ``max`` and ``topk`` over ``dim=1``, as a tensor would.

    Attributes:
        logits: (B, k).
        classes: (B, k).
    """

    logits: Tensor
    classes: Tensor

    @classmethod
    def none(cls, n_images: int, device: torch.device) -> "TopClasses":
        """Of images that no class has been scored for."""
        nothing = torch.empty(n_images, 0, device=device)
        return cls(nothing, nothing.long())

    def with_chunk(self, logits: Tensor, classes: Tensor, k: int) -> "TopClasses":
        """The k best of these and of further classes, which are to come in ascending order.

        Args:
            logits: (B, c).
            classes: (c,), which those are.
            k: how many to keep.
        """
        logits = torch.cat([self.logits, logits.float()], dim=1)
        classes = torch.cat([self.classes, classes.to(logits.device).expand(len(logits), -1)], dim=1)
        best = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
        return TopClasses(logits.gather(1, best), classes.gather(1, best))

    def argmax(self, dim: int = 1) -> Tensor:
        return self.classes[:, 0]

    def max(self, dim: int = 1) -> tuple[Tensor, Tensor]:
        return self.logits[:, 0], self.classes[:, 0]

    def topk(self, k: int, dim: int = 1) -> tuple[Tensor, Tensor]:
        if k > self.classes.shape[1]:
            raise ValueError(f"the {k} best classes are asked for, {self.classes.shape[1]} were kept")
        return self.logits[:, :k], self.classes[:, :k]
