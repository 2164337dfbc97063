"""Whether a training goes on behind a loss that is NaN or infinite, and what its steps have returned."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

# Losses in a row that are not finite while a scaler skips their steps: as many as an epoch has, within these bounds.
FEWEST, MOST = 5, 50


class LossRule:
    """Counts losses that are not finite, one after another.

    Without a loss scaler the first one ends a training. A scaler (torch.amp.GradScaler) skips steps whose gradients are
    not finite, and a batch that overflows in half precision hurts nobody. It halves the scale then, on which the loss
    itself does not depend: that depends on the weights, which a skipped step leaves, and on the batch. So it is of no
    use to go on where the weights are not finite, or when every batch of an epoch has been tried with the same weights.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def ends(self, loss: float, num_batches: int, trainer: Any, models: Mapping[str, nn.Module]) -> bool:
        """Whether the training ends with this loss.

        Args:
            num_batches: of an epoch.
            trainer: its loss scalers are looked for among its attributes.
            models: those that are trained.
        """
        self._in_a_row = 0 if math.isfinite(loss) else self._in_a_row + 1
        if not self._in_a_row:
            return False
        if not _has_scaler(trainer) or self._in_a_row >= min(max(num_batches, FEWEST), MOST):
            return True
        parameters = (weight for model in models.values() for weight in model.parameters())
        return not all(torch.isfinite(weight).all() for weight in parameters)


def _has_scaler(trainer: Any) -> bool:
    scalers = (value for value in vars(trainer).values() if isinstance(value, torch.amp.GradScaler))
    return any(scaler.is_enabled() for scaler in scalers)


def has_tensors(summary: Any) -> bool:
    """Whether a step has returned something that is still on the device."""
    return isinstance(summary, dict) and any(isinstance(value, torch.Tensor) for value in summary.values())


def fetched(summaries: list[Any]) -> list[Any]:
    """The same with numbers instead of one-element tensors, all of them in one transfer from the device."""
    tensors = [
        value.detach().reshape(()).float()
        for summary in summaries
        if has_tensors(summary)
        for value in summary.values()
        if isinstance(value, torch.Tensor)
    ]
    numbers = iter(
        torch.stack([value.to(tensors[0].device) for value in tensors]).tolist() if tensors else []
    )
    return [
        {name: next(numbers) if isinstance(value, torch.Tensor) else value for name, value in summary.items()}
        if has_tensors(summary)
        else summary
        for summary in summaries
    ]
