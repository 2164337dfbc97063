import functools

import pytest
import torch

import clip
from clip.load import MINI
from tests.trainers import harness


@pytest.fixture(autouse=True, scope="session")
def _towers_are_loaded_once():
    """The towers are frozen, so all trainers of a process can share them; a test says that nothing changes them.

    Loading them draws random numbers: not here, or the first trainer of a process would begin with other prompts.
    """
    load = clip.load

    @functools.cache
    def load_once(*args, **options):
        with torch.random.fork_rng(devices=[]):
            return load(*args, **options)

    if not (MINI / "mini.safetensors").exists():
        pytest.skip("the bundled model's weights are not there")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "load", load_once)
        yield


@pytest.fixture(scope="session")
def images():
    """Six images at the size of the bundled model."""
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(data_root, tmp_path):
    """Build a trainer: make("CoOp", "OPTIM.LR", 0.1, output="name of its folder")."""

    def make(method, *opts, output="run", **options):
        return harness.build(harness.make_cfg(method, data_root, tmp_path / output, *opts, **options))

    return make


@pytest.fixture(scope="module")
def trained(request, data_root, tmp_path_factory):
    """A trainer (the test's parameter) after two epochs on the five base classes; its checkpoint is in its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    base = ["DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.02]
    return harness.fit(harness.build(harness.make_cfg(request.param, data_root, folder, *base)))
