"""The best classes of every image, where logits come in chunks of classes and all of them would be too many to keep."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foundation.probabilities import log_sums, own_logits


class TopClasses(NamedTuple):
    """The k best classes of each image, best first; of equal ones the first class, as with ``Tensor.argmax``.

    Answers what an evaluator asks of logits (B, C): ``argmax``, ``max`` and ``topk`` over ``dim=1``, as a tensor would.
    What the probabilities of all C classes take of those that are not kept is in ``own`` and ``sums``.

    Attributes:
        logits: (B, k).
        classes: (B, k).
        own: (B, 1) logit of the image's own class; (B, 0) where that is not known.
        sums: (B, P) log sum_k exp(b z_k) over all classes k, for P powers b.
    """

    logits: Tensor
    classes: Tensor
    own: Tensor
    sums: Tensor

    @classmethod
    def none(
        cls, n_images: int, device: torch.device, n_powers: int = 0, labelled: bool = False
    ) -> "TopClasses":
        """Of images that no class has been scored for."""
        nothing = torch.empty(n_images, 0, device=device)
        own, sums = (
            torch.full((n_images, columns), -torch.inf, device=device)
            for columns in (int(labelled), n_powers)
        )
        return cls(nothing, nothing.long(), own, sums)

    def with_chunk(
        self,
        logits: Tensor,
        classes: Tensor,
        k: int,
        powers: Sequence[float] = (),
        labels: Tensor | None = None,
    ) -> "TopClasses":
        """The k best of these and of further classes, which are to come in ascending order.

        Args:
            logits: (B, c).
            classes: (c,), which those are.
            k: how many to keep.
            powers: the P powers of ``sums``.
            labels: (B,) the images' own classes, where they are known.
        """
        logits = logits.float()
        own, sums = self.own, self.sums
        if labels is not None:
            of_chunk = own_logits(logits, labels, classes.to(logits.device))
            own = torch.maximum(own, of_chunk[:, None])
        if powers:
            sums = torch.logaddexp(sums, log_sums(logits, powers))
        logits = torch.cat([self.logits, logits], dim=1)
        classes = torch.cat([self.classes, classes.to(logits.device).expand(len(logits), -1)], dim=1)
        best = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
        return TopClasses(logits.gather(1, best), classes.gather(1, best), own, sums)

    def argmax(self, dim: int = 1) -> Tensor:
        return self.classes[:, 0]

    def max(self, dim: int = 1) -> tuple[Tensor, Tensor]:
        return self.logits[:, 0], self.classes[:, 0]

    def topk(self, k: int, dim: int = 1) -> tuple[Tensor, Tensor]:
        if k > self.classes.shape[1]:
            raise ValueError(f"the {k} best classes are asked for, {self.classes.shape[1]} were kept")
        return self.logits[:, :k], self.classes[:, :k]
