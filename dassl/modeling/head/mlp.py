"""A multi-layer perceptron as head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .build import HEAD_REGISTRY

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class MLP(nn.Module):
    """Linear, batch norm (if ``bn``), activation, dropout (if above 0), for each of ``hidden_layers``.

    Takes (B, in_features), returns (B, out_features) with ``out_features`` the last of ``hidden_layers``.
    """

    def __init__(
        self,
        in_features: int = 2048,
        hidden_layers: int | Sequence[int] = (),
        activation: str = "relu",
        bn: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        widths = [hidden_layers] if isinstance(hidden_layers, int) else list(hidden_layers)
        if not widths:
            raise ValueError("hidden_layers is empty: an MLP needs at least one layer")
        if activation not in ACTIVATIONS:
            raise ValueError(f'unknown activation "{activation}": choose one of {", ".join(ACTIVATIONS)}')
        self.out_features = widths[-1]
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Linear(in_features, width))
            if bn:
                layers.append(nn.BatchNorm1d(width))
            layers.append(ACTIVATIONS[activation](inplace=True))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            in_features = width
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x)


@HEAD_REGISTRY.register()
def mlp(**kwargs: Any) -> MLP:
    """``MLP(**kwargs)``."""
    return MLP(**kwargs)
