import pytest
import sklearn.datasets
import torch
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from clip.load import MINI
from dassl.data.datasets import build_dataset
from tests.trainers import harness


@pytest.fixture(autouse=True, scope="module")
def _towers(towers_are_loaded_once):
    """All trainers of a process share them."""
    if not (MINI / "mini.safetensors").exists():
        pytest.skip("the bundled model's weights are not there")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A data root with a fifth of the bundled digits: to read all of them takes longer than to build a trainer."""
    root = tmp_path_factory.mktemp("few_data")
    digits = load_digits()
    few = Bunch(images=digits.images[:360], target=digits.target[:360])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda: few)
        build_dataset(harness.make_cfg("ZeroshotCLIP", root, root))
    return root


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
