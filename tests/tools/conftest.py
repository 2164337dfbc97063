import sys

import pytest

from tests import copies


@pytest.fixture(autouse=True, scope="module")
def _towers(request):
    """All models of a process share them; a module that imports none need not, either."""
    if "clip" in sys.modules:
        request.getfixturevalue("towers_are_loaded_once")


@pytest.fixture
def runs_are_copies(monkeypatch, towers_are_loaded_once):
    """Runs that the launcher starts are copies of this process, which has loaded the towers."""
    import clip

    clip.load("mini", "fp32")
    monkeypatch.setattr("tools.launching.process.subprocess", copies.IN_PLACE)
