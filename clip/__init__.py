"""CLIP's two towers with one hook for prompts, on open_clip's models."""

from .image_tower import ImageFeatures, ImageTower
from .load import load
from .lookup import kept
from .model import CLIP
from .precision import PRECISIONS
from .sending import send
from .text_prompts import Layout, TextPrompts
from .text_tower import TextFeatures, TextTower
from .tokenizer import CONTEXT_LENGTH, EOT, SOS, decode, encode, tokenize

__all__ = [
    "CLIP",
    "CONTEXT_LENGTH",
    "EOT",
    "PRECISIONS",
    "SOS",
    "ImageFeatures",
    "ImageTower",
    "Layout",
    "TextFeatures",
    "TextPrompts",
    "TextTower",
    "decode",
    "encode",
    "kept",
    "load",
    "send",
    "tokenize",
]
