from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from dassl.modeling import BACKBONE_REGISTRY, build_backbone
from dassl.modeling.backbone import Backbone, from_torchvision

OF_EACH_FAMILY = ["resnet18", "alexnet", "mobilenetv2", "shufflenet_v2_x0_5", "efficientnet_b0"]


@pytest.mark.parametrize("name", OF_EACH_FAMILY)
def test_features_are_what_torchvisions_last_layer_sees(name):
    net = get_model(from_torchvision.NAMES[name], weights=None).eval()
    backbone = build_backbone(name, verbose=False, pretrained=False).eval()
    assert isinstance(backbone, Backbone)
    result = backbone.load_state_dict(net.state_dict(), strict=False)
    last = "fc" if hasattr(net, "fc") else f"classifier.{len(net.classifier) - 1}"
    assert set(result.unexpected_keys) == {f"{last}.weight", f"{last}.bias"}
    assert not result.missing_keys

    images = torch.rand(2, 3, 64, 64)
    features = backbone(images)
    assert features.shape == (2, backbone.out_features)
    assert torch.allclose(net.get_submodule(last)(features), net(images), atol=1e-5)
    assert backbone.featuremaps(images).dim() == 4


def test_all_names_exist_in_torchvision():
    for name, torchvision_name in from_torchvision.NAMES.items():
        with torch.device("meta"):
            net = get_model(torchvision_name, weights=None)
        assert name in BACKBONE_REGISTRY.registered_names()
        assert hasattr(net, "fc") or isinstance(net.classifier[-1], nn.Linear)


def test_a_backbone_of_ones_own(capsys):
    @BACKBONE_REGISTRY.register(force=True)
    def tiny_backbone_of_a_test(width=5, **kwargs):
        net = Backbone()
        net._out_features = width
        return net

    assert build_backbone("tiny_backbone_of_a_test", width=7).out_features == 7
    assert capsys.readouterr().out == "Backbone: tiny_backbone_of_a_test\n"
    assert Backbone().out_features is None


def test_unknown_name():
    with pytest.raises(ValueError, match="resnet50"):
        build_backbone("resnet51")


def test_no_network_for_pretrained_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(OSError, match=r"weights of resnet18 could not be downloaded.*no route to host"):
        build_backbone("resnet18", verbose=False)
