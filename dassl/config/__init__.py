"""The config tree: every key of Dassl 0.6.3 with its default."""

from yacs.config import CfgNode

from foundation.keys import tree
from foundation.keys.of_dassl import DASSL

__all__ = ["clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """A fresh config with the default of every key."""
    return CfgNode(tree(DASSL))


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the sections of all trainers but ``trainer``, so that a printed config stays short."""
    for key in list(cfg.TRAINER.keys()):
        if key not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(key, None)
