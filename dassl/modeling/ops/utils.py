"""Labels and probabilities as methods with soft targets need them."""

from torch import Tensor
from torch.nn import functional


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """Labels (B,) as rows (B, num_classes) of one 1 each, fp32 on the CPU as in Dassl."""
    return functional.one_hot(label.detach().cpu().long(), num_classes).float()


def sharpen_prob(p: Tensor, temperature: float = 2) -> Tensor:
    """Probabilities (B, C) to the power ``temperature``, scaled to sum to one again."""
    powers = p.pow(temperature)
    return powers / powers.sum(1, keepdim=True)
