from pathlib import Path

import pytest

from datasets.dtd import DescribableTextures
from datasets.split import Split
from tests.datasets.layouts import LayOut, make_cfg, rows, sizes


def test_published_and_own_split(lay_out: LayOut, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    split = lay_out("DescribableTextures", "dtd", "images")
    data = DescribableTextures(make_cfg(tmp_path))
    images = tmp_path / "dtd" / "images"
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split
    assert sizes(data) == (47, 2820, 1128, 1692)
    assert data.template.format("banded") == "banded texture."
    (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").unlink()
    own = DescribableTextures(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert own.lab2cname == data.lab2cname
    assert sizes(own) == (47, 2820, 1128, 1692)
