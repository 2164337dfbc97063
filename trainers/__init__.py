"""Prompt-learning methods, one file each; importing this package registers all of them."""

from . import coop, mmtpa, zeroshot

__all__ = ["coop", "mmtpa", "zeroshot"]
