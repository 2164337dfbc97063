from pathlib import Path

import pytest

from datasets.oxford_pets import OxfordPets
from datasets.split import Split
from tests.datasets.layouts import LayOut, make_cfg, rows, sizes


def test_published_and_own_split(lay_out: LayOut, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    split = lay_out("OxfordPets", "oxford_pets", "images")
    images = tmp_path / "oxford_pets" / "images"
    data = OxfordPets(make_cfg(tmp_path))
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split
    assert data.template.format("pug") == "a photo of a pug, a type of pet."

    # The archive's lists, with the breed's number among cats or dogs as the last figure.
    (tmp_path / "oxford_pets" / "split_zhou_OxfordPets.json").unlink()
    (tmp_path / "oxford_pets" / "annotations").mkdir()
    for name, items in (("trainval", split.train + split.val), ("test", split.test)):
        lines = [
            f"{item.path[:-4]} {item.label + 1} {2 - item.path[0].isupper()} 7\n" for item in sorted(items)
        ]
        (tmp_path / "oxford_pets" / "annotations" / f"{name}.txt").write_text("".join(lines))
    own = OxfordPets(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert sorted(rows(own.train_x + own.val, images)) == sorted(split.train + split.val)
    assert sorted(rows(own.test, images)) == sorted(split.test)
    assert sizes(own) == (37, 2944, 736, 3669)
