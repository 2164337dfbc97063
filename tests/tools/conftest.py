import pytest

import clip
from tests import copies


@pytest.fixture(autouse=True, scope="module")
def _towers(towers_are_loaded_once):
    """All models of a process share them."""


@pytest.fixture
def runs_are_copies(monkeypatch):
    """Runs that the launcher starts are copies of this process, which has loaded the towers."""
    clip.load("mini", "fp32")
    monkeypatch.setattr("tools.launching.process.subprocess", copies.IN_PLACE)
