import pytest


@pytest.fixture(autouse=True, scope="module")
def _towers(towers_are_loaded_once):
    """All models of a process share them."""
