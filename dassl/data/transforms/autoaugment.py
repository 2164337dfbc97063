"""AutoAugment's learned policies (Cubuk et al., CVPR 2019, arXiv:1805.09501), as torchvision first had them.

Its v2 ones draw in another order and solarise at rounded thresholds (170.000005 for 170), so pixels would differ.
"""

from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode

__all__ = ["CIFAR10Policy", "ImageNetPolicy", "SVHNPolicy"]


class _Policy(AutoAugment):
    def __init__(self, policy: AutoAugmentPolicy, fillcolor: tuple[int, int, int]):
        super().__init__(policy, interpolation=InterpolationMode.NEAREST, fill=list(fillcolor))


class ImageNetPolicy(_Policy):
    """The policy learned on ImageNet."""

    def __init__(self, fillcolor: tuple[int, int, int] = (128, 128, 128)):
        super().__init__(AutoAugmentPolicy.IMAGENET, fillcolor)


class CIFAR10Policy(_Policy):
    """The policy learned on CIFAR-10."""

    def __init__(self, fillcolor: tuple[int, int, int] = (128, 128, 128)):
        super().__init__(AutoAugmentPolicy.CIFAR10, fillcolor)


class SVHNPolicy(_Policy):
    """The policy learned on SVHN."""

    def __init__(self, fillcolor: tuple[int, int, int] = (128, 128, 128)):
        super().__init__(AutoAugmentPolicy.SVHN, fillcolor)
