"""CLIP's two towers with one hook for what a method changes in them, on open_clip's models."""

from .changes import NONE, Changes, LowRank, Tokens, deep_prompts
from .image_tower import ImageFeatures, ImageTower, Tap
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
    "NONE",
    "PRECISIONS",
    "SOS",
    "Changes",
    "ImageFeatures",
    "ImageTower",
    "Layout",
    "LowRank",
    "Tap",
    "TextFeatures",
    "TextPrompts",
    "TextTower",
    "Tokens",
    "decode",
    "deep_prompts",
    "encode",
    "kept",
    "load",
    "send",
    "tokenize",
]
