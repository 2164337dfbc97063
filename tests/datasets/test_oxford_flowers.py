import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datasets.oxford_flowers import OxfordFlowers
from datasets.split import Split
from tests.datasets.layouts import LayOut, make_cfg, rows, sizes


def test_published_and_own_split(
    lay_out: LayOut, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    split = lay_out("OxfordFlowers", "oxford_flowers", "jpg")
    folder, images = tmp_path / "oxford_flowers", tmp_path / "oxford_flowers" / "jpg"
    data = OxfordFlowers(make_cfg(tmp_path))
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split
    assert data.template.format("rose") == "a photo of a rose, a type of flower."

    (folder / "split_zhou_OxfordFlowers.json").unlink()
    shutil.copy(shared / "data" / "splits" / "cat_to_name.json", folder)
    items = sorted(item for part in split for item in part)
    savemat(
        folder / "imagelabels.mat", {"labels": np.array([[item.label + 1 for item in items]], dtype=np.uint8)}
    )
    own = OxfordFlowers(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert sorted(rows(own.train_x + own.val + own.test, images)) == items
    assert sizes(own) == (102, 4093, 1633, 2463)
