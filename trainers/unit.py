"""Features scaled to unit norm."""

import torch.nn.functional as F
from torch import Tensor


def unit(features: Tensor) -> Tensor:
    """Features scaled to unit norm, in fp32."""
    return F.normalize(features.float(), dim=-1)
