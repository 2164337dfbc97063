import pytest
import torch

from clip import CLIP, arrangement
from tests.clip import tiny


@pytest.fixture(scope="session")
def weights():
    return tiny.state_dict()


@pytest.fixture(scope="session")
def original(weights):
    """open_clip's model."""
    return tiny.model(weights)


@pytest.fixture(scope="session")
def towers(weights):
    """Ours, with the same weights."""
    return CLIP(tiny.model(weights), "tiny")


@pytest.fixture(params=["packed", "groves"])
def form(request, towers, monkeypatch):
    """Both arrangements of the tokens; groves of few tokens, so that there are several."""
    monkeypatch.setattr(towers.text, "packed", request.param == "packed")
    monkeypatch.setattr(arrangement, "ROW", 16)
    arrangement.arrange.cache_clear()
    arrangement.split.cache_clear()
    yield request.param
    arrangement.arrange.cache_clear()
    arrangement.split.cache_clear()


# Images


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
