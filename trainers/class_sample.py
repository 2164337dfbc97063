"""The classes that a training step tells apart, where these are not all of a large vocabulary (TRAINER.CLASS_SAMPLE).

Those of the batch, and others drawn at random, as with the class centres of Partial FC (An et al., CVPR 2022).
"""

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from foundation.keys.of_all_runs import of


def sample_size(cfg: CfgNode, n_classes: int) -> int:
    """Classes that a training step tells apart; 0: all.

    Raises:
        ValueError: they are fewer than a batch may have.
    """
    size, batch = of(cfg, "TRAINER.CLASS_SAMPLE"), cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    if size and size < min(batch, n_classes):
        raise ValueError(
            f"TRAINER.CLASS_SAMPLE is {size}, a batch may have {min(batch, n_classes)} classes: at least as many, or 0 "
            "for all classes, is needed"
        )
    return size if size < n_classes else 0


def draw_classes(labels: Tensor, n_classes: int, size: int, entropy: tuple[int, ...]) -> Tensor:
    """(size,) ascending indices of classes: all those of the batch, and others drawn at random.

    Args:
        labels: of the whole batch, of at most ``size`` classes.
        n_classes: from which to draw.
        entropy: decides the draw.
    """
    of_batch = np.unique(labels.cpu().numpy())
    others = np.setdiff1d(np.arange(n_classes), of_batch)
    drawn = np.random.default_rng(entropy).choice(others, size - len(of_batch), replace=False)
    return torch.from_numpy(np.sort(np.concatenate([of_batch, drawn])))
