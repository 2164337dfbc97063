"""The config tree: every key with its default."""

from yacs.config import CfgNode

from .defaults import DEFAULTS

__all__ = ["clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """A fresh config with the default of every key."""
    return CfgNode(DEFAULTS).clone()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the sections of all trainers but ``trainer``, so that a printed config stays short."""
    for key in list(cfg.TRAINER.keys()):
        if key not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(key, None)
