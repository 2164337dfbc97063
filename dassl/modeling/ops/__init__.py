"""Small functions of methods."""

from .utils import create_onehot, sharpen_prob

__all__ = ["create_onehot", "sharpen_prob"]
