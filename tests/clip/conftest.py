import pytest

from clip import CLIP
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
