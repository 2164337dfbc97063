"""Batches on their way to a GPU."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from dassl.data import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from tests.dassl.data.conftest import cfg, items  # noqa: F401


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_lie_in_pinned_memory(cfg, items, workers):  # noqa: F811
    cfg.DATALOADER.NUM_WORKERS = workers
    transform = build_transform(cfg, is_train=False, choices=["normalize"])
    loader = build_data_loader(cfg, data_source=items, batch_size=10, tfm=transform, is_train=False)
    wrapper = DatasetWrapper(cfg, items, transform)
    for batch in loader:
        assert batch["img"].is_pinned()
        assert batch["label"].is_pinned()
        assert torch.equal(batch["img"], torch.stack([wrapper[int(i)]["img"] for i in batch["index"]]))
