import pytest
import torch
from torch import nn

from dassl.modeling import build_head


def test_mlp():
    head = build_head(
        "mlp", verbose=False, in_features=6, hidden_layers=[8, 4], activation="leaky_relu", dropout=0.1
    )
    layer = [nn.Linear, nn.BatchNorm1d, nn.LeakyReLU, nn.Dropout]
    assert [type(part) for part in head.mlp] == layer * 2
    assert head.out_features == 4
    assert head(torch.rand(3, 6)).shape == (3, 4)


def test_mlp_without_batch_norm_and_dropout(capsys):
    head = build_head("mlp", in_features=6, hidden_layers=5, bn=False)
    assert [type(part) for part in head.mlp] == [nn.Linear, nn.ReLU]
    assert capsys.readouterr().out == "Head: mlp\n"


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="hidden_layers is empty"):
        build_head("mlp", verbose=False)
    with pytest.raises(ValueError, match='unknown activation "gelu"'):
        build_head("mlp", verbose=False, hidden_layers=[3], activation="gelu")
