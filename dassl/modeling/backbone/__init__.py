"""Backbones: networks that turn images (B, 3, H, W) into features (B, out_features)."""

from .backbone import Backbone
from .build import BACKBONE_REGISTRY, build_backbone
from .from_torchvision import TorchvisionBackbone

__all__ = ["BACKBONE_REGISTRY", "Backbone", "TorchvisionBackbone", "build_backbone"]
