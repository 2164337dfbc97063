"""torchvision's convolutional networks as backbones."""

from typing import Any

import torch
from torch import nn
from torchvision.models import get_model

from .backbone import Backbone
from .build import BACKBONE_REGISTRY

# Name in Dassl -> name in torchvision.
NAMES = {
    "alexnet": "alexnet",
    "vgg16": "vgg16",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "mobilenetv2": "mobilenet_v2",
    "mobilenet_v2": "mobilenet_v2",
    "shufflenet_v2_x0_5": "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0": "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5": "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0": "shufflenet_v2_x2_0",
    **{f"efficientnet_b{i}": f"efficientnet_b{i}" for i in range(8)},
}


class TorchvisionBackbone(Backbone):
    """A torchvision classifier without its last linear layer.

    The parts keep torchvision's names, so that its checkpoints, and Dassl's of the same networks, fit.

    Args:
        net: a network whose children, in order, are convolutional layers, possibly ``avgpool``, and at
            the end ``fc`` (one linear layer) or ``classifier`` (layers of which the last is linear).
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self._feature_names: list[str] = []
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.classifier: nn.Module = nn.Identity()
        name: str
        child: Any
        for name, child in net.named_children():
            if name == "fc":
                self._out_features = child.in_features
            elif name == "classifier":
                self.classifier = child[:-1]
                self._out_features = child[-1].in_features
            else:
                self.add_module(name, child)
                if name != "avgpool":
                    self._feature_names.append(name)

    def featuremaps(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to the last feature maps (B, D, h, w)."""
        for name in self._feature_names:
            x = getattr(self, name)(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.featuremaps(x)), 1))


def _register(name: str, torchvision_name: str) -> None:
    def build(pretrained: bool = True, **kwargs: Any) -> TorchvisionBackbone:
        try:
            net = get_model(torchvision_name, weights="IMAGENET1K_V1" if pretrained else None)
        except OSError as error:
            raise OSError(
                f"the pretrained weights of {name} could not be downloaded ({error}); "
                "MODEL.BACKBONE.PRETRAINED False starts from random weights"
            ) from None
        return TorchvisionBackbone(net)

    build.__name__ = name
    BACKBONE_REGISTRY.register()(build)


for _name, _torchvision_name in NAMES.items():
    _register(_name, _torchvision_name)
