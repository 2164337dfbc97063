from pathlib import Path

import pytest

from datasets.split import Split
from datasets.ucf101 import UCF101
from tests.datasets.layouts import LayOut, make_cfg, rows, sizes


def test_published_and_own_split(lay_out: LayOut, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    split = lay_out("UCF101", "ucf101", "UCF-101-midframes")
    folder, images = tmp_path / "ucf101", tmp_path / "ucf101" / "UCF-101-midframes"
    data = UCF101(make_cfg(tmp_path))
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split
    assert data.template.format("Tai Chi") == "a photo of a person doing Tai Chi."

    # The lists of the first of the archive's three splits.
    (folder / "split_zhou_UCF101.json").unlink()
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    names = sorted(data.lab2cname.items())
    (lists / "classInd.txt").write_text(
        "".join(f"{label + 1} {name.replace('_', '')}\r\n" for label, name in names)
    )
    for name, items in (("trainlist01", split.train + split.val), ("testlist01", split.test)):
        lines = []
        for item in sorted(items):
            action, frame = item.path.split("/")
            number = f" {item.label + 1}" if name == "trainlist01" else ""
            lines.append(f"{action.replace('_', '')}/{frame[:-4]}.avi{number}\r\n")
        (lists / f"{name}.txt").write_text("".join(lines))
    own = UCF101(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert sorted(rows(own.train_x + own.val, images)) == sorted(split.train + split.val)
    assert sorted(rows(own.test, images)) == sorted(split.test)
    assert sizes(own) == (101, 7639, 1898, 3783)
