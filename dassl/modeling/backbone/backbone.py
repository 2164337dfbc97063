"""The base class of backbones."""

from torch import nn


class Backbone(nn.Module):
    """Images (B, 3, H, W) to features (B, ``out_features``). Subclasses set ``_out_features``."""

    _out_features: int | None = None

    @property
    def out_features(self) -> int | None:
        """Width of the features, None where a subclass did not set it."""
        return self._out_features
