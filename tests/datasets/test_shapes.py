import multiprocessing
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import shapes
from datasets.base_new import subsample_classes
from datasets.shapes import THINGS, Shapes, ShapesBackgrounds, ShapesNoise, ShapesSketch
from datasets.split import Item, Split, load_split
from tests.datasets.layouts import make_cfg, sizes

SHIFTED = (ShapesBackgrounds, ShapesSketch, ShapesNoise)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture of each class for testing, two for training: quick to draw."""
    monkeypatch.setattr(Shapes, "parts", {"train": 2, "val": 1, "test": 1})
    for cls in SHIFTED:
        monkeypatch.setattr(cls, "parts", {"test": 1})


def test_the_classes_are_all_combinations() -> None:
    textures, colours, kinds = ({getattr(t, k) for t in THINGS} for k in ("texture", "colour", "shape"))
    names = {f"{t} {c} {s}" for t, c, s in product(textures, colours, kinds)}
    assert {thing.name for thing in THINGS} == names
    assert len(THINGS) == len(names) == 48


@pytest.mark.parametrize("subset", ["base", "new"])
def test_both_halves_have_every_word(subset: str) -> None:
    whole = Split([Item("a.png", i, thing.name) for i, thing in enumerate(THINGS)], [], [])
    half = [item.classname for item in subsample_classes(whole, subset).train]
    assert len(half) == 24
    words = {word for thing in THINGS for word in thing.name.split()}
    assert {word for name in half for word in name.split()} == words


def test_full_size() -> None:
    assert {part: count * len(THINGS) for part, count in Shapes.parts.items()} == {
        "train": 960,
        "val": 384,
        "test": 1440,
    }


@pytest.mark.usefixtures("few")
def test_it_is_drawn_on_first_use_only(tmp_path: Path) -> None:
    data = Shapes(make_cfg(tmp_path / "new" / "root"))
    assert sizes(data) == (48, 96, 48, 48)
    assert data.template == "a photo of a {}."
    folder = tmp_path / "new" / "root" / "shapes"
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*.png")}
    again = Shapes(make_cfg(tmp_path / "new" / "root"))
    assert [d.impath for d in again.test] == [d.impath for d in data.test]
    assert times == {file: file.stat().st_mtime_ns for file in folder.rglob("*.png")}
    datum = data.test[5]
    with Image.open(datum.impath) as image:
        assert np.array_equal(np.asarray(image), Shapes.picture("test", datum.label, 0))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("cls", SHIFTED)
def test_shifted_sets_share_the_classes_and_only_test(cls: type[Shapes], tmp_path: Path) -> None:
    data = cls(make_cfg(tmp_path))
    assert data.classnames == [thing.name for thing in THINGS]
    split = load_split(str(tmp_path / cls.dataset_dir / cls.split_file))
    assert (len(split.train), len(split.val), len(split.test)) == (0, 0, 48)


def test_no_picture_is_in_two_parts_or_sets() -> None:
    pictures = [
        cls.picture(part, 3, number).tobytes()
        for cls in (Shapes, *SHIFTED)
        for part in ("train", "val", "test")
        for number in range(3)
    ]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.usefixtures("few")
def test_an_interrupted_drawing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shapes, "save_split", fail)
        with pytest.raises(KeyboardInterrupt):
            Shapes(make_cfg(tmp_path))
    assert os.listdir(tmp_path) == []
    assert sizes(Shapes(make_cfg(tmp_path)))[0] == 48


def _use(root: Path) -> int:
    Shapes.parts = {"train": 1, "test": 1}
    return len(Shapes(make_cfg(root)).test)


def test_two_runs_may_start_together(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_use, [tmp_path, tmp_path], chunksize=1) == [48, 48]
    assert os.listdir(tmp_path) == ["shapes"]
    assert len(list((tmp_path / "shapes").rglob("*.png"))) == 96
