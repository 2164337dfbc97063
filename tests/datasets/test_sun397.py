from pathlib import Path

import pytest

from datasets.split import Item, Split, save_split
from datasets.sun397 import SUN397
from tests.datasets.layouts import Link, make_cfg, rows, sizes


def test_published_and_own_split(tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture) -> None:
    folder, images = tmp_path / "sun397", tmp_path / "sun397" / "SUN397"
    names = {
        "a/abbey": "abbey",
        "c/church/indoor": "indoor church",
        "v/volleyball_court/outdoor": "outdoor volleyball_court",
    }
    train, test = (
        [
            Item(f"{c}/sun_{part}{i}.jpg", label, name)
            for label, (c, name) in enumerate(names.items())
            for i in range(10)
        ]
        for part in "ab"
    )
    link_images(images, [item.path for item in train + test])
    split = Split(train[::2], train[1::2], test)
    save_split(split, str(folder / "split_zhou_SUN397.json"))
    data = SUN397(make_cfg(tmp_path))
    assert Split(rows(data.train_x, images), rows(data.val, images), rows(data.test, images)) == split

    # The lists of the first of the archive's ten partitions.
    (folder / "split_zhou_SUN397.json").unlink()
    (folder / "ClassName.txt").write_text("".join(f"/{c}\n" for c in names))
    (folder / "Training_01.txt").write_text("".join(f"/{item.path}\n" for item in train))
    (folder / "Testing_01.txt").write_text("".join(f"/{item.path}\n" for item in test))
    own = SUN397(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert sorted(rows(own.train_x + own.val, images)) == sorted(train)
    assert rows(own.test, images) == test
    assert sizes(own) == (3, 24, 6, 30)
