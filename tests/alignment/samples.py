"""Random token sets that look like CLIP's: unit norm, with a common direction, so that cosines lie around
0.3."""

import torch
import torch.nn.functional as F


def tokens(*shape, seed=0, common=0.7, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(shape[-1], generator=torch.Generator().manual_seed(99))
    return F.normalize(torch.randn(shape, generator=generator) + common * direction, dim=-1).to(dtype)
