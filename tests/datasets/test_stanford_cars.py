from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datasets.split import Item, Split
from datasets.stanford_cars import StanfordCars
from tests.datasets.layouts import LayOut, make_cfg, rows, sizes


def test_published_and_own_split(lay_out: LayOut, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    split = lay_out("StanfordCars", "stanford_cars", ".")
    folder = tmp_path / "stanford_cars"
    data = StanfordCars(make_cfg(tmp_path))
    assert Split(rows(data.train_x, folder), rows(data.val, folder), rows(data.test, folder)) == split
    assert data.template.format("2012 Audi TTS Coupe") == "a photo of a 2012 Audi TTS Coupe."

    # The archives' annotations: boxes, class from 1 and file name; class names with the year last.
    (folder / "split_zhou_StanfordCars.json").unlink()
    names = [name.partition(" ") for _, name in sorted(data.lab2cname.items())]
    (folder / "devkit").mkdir()
    meta = np.array([[f"{model} {year}" for year, _, model in names]], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": meta})
    save_annotations(folder / "devkit" / "cars_train_annos.mat", split.train + split.val)
    save_annotations(folder / "cars_test_annos_withlabels.mat", split.test)
    own = StanfordCars(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert sorted(rows(own.train_x + own.val, folder)) == sorted(split.train + split.val)
    assert sorted(rows(own.test, folder)) == sorted(split.test)
    assert sizes(own) == (196, 6509, 1635, 8041)


def save_annotations(path: Path, items: list[Item]) -> None:
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = np.empty((1, len(items)), dtype=[(field, object) for field in fields])
    for i, item in enumerate(sorted(items)):
        rows[0, i] = (39, 116, 569, 375, item.label + 1, item.path.rpartition("/")[2])
    savemat(path, {"annotations": rows})
