import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from datasets.fewshot import draw_hash, draw_images, few_shot
from datasets.legacy_draw import load_legacy_draw
from datasets.split import Item, Split
from tests.datasets.layouts import make_split

MODULE = "dassl.data.datasets.base_dataset"


class Datum:
    """Dassl's class as far as a pickle shows it: where it is found and what its instances hold."""

    def __init__(self, item: Item, root: str) -> None:
        self._impath, self._label, self._domain, self._classname = (
            root + item.path,
            item.label,
            0,
            item.classname,
        )


Datum.__module__ = MODULE


def leave_draw(folder: Path, draw: Split, root: str, parts: tuple[str, ...] = ("train", "val")) -> Path:
    """Pickle a draw as CoOp's code does, made with the images in ``root``."""
    content = {part: [Datum(item, root) for item in getattr(draw, part)] for part in parts}
    return dump(folder, content)


def dump(folder: Path, content: Any) -> Path:
    file = folder / "shot_2-seed_1.pkl"
    module, there = ModuleType(MODULE), sys.modules.get(MODULE)
    module.Datum = Datum  # type: ignore[attr-defined]
    sys.modules[MODULE] = module
    try:
        file.write_bytes(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
    finally:
        if there is None:
            del sys.modules[MODULE]
        else:
            sys.modules[MODULE] = there
    return file


@pytest.mark.parametrize("root", ["/home/zhou/DATA/toy/images/", "C:\\data\\toy\\images\\", "images/", ""])
def test_a_draw_made_elsewhere_is_repeated(tmp_path: Path, root: str, capsys: pytest.CaptureFixture) -> None:
    split, published = make_split(), draw_images(make_split(), 2, seed=1234)
    file = leave_draw(tmp_path, published, root)
    before = file.read_bytes()
    draw = few_shot(split, 2, 1, str(tmp_path))
    assert draw == published._replace(test=split.test)
    assert draw_hash(draw) == draw_hash(published)
    assert capsys.readouterr().out == f"Few-shot draw: {file} (made by CoOp's code)\n"
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def test_it_comes_before_a_draw_of_our_own(tmp_path: Path) -> None:
    split, published = make_split(), draw_images(make_split(), 2, seed=1234)
    own = few_shot(split, 2, 1, str(tmp_path))
    leave_draw(tmp_path, published, "/DATA/")
    assert few_shot(split, 2, 1, str(tmp_path)).train == published.train != own.train


def test_images_may_be_repeated_and_validation_absent(tmp_path: Path) -> None:
    # CoOp draws with replacement where a class is too small; its ImageNet has no validation part.
    split = make_split(classes=2, train=1, val=0)
    leave_draw(
        tmp_path, Split([item for item in split.train for _ in range(2)], [], []), "/DATA/", ("train",)
    )
    draw = few_shot(split, 2, 1, str(tmp_path))
    assert [item.label for item in draw.train] == [0, 0, 1, 1]
    assert draw.val == []


def test_class_names_are_those_of_the_split(tmp_path: Path) -> None:
    split = make_split()
    draw = draw_images(split, 2, 1)
    leave_draw(tmp_path, draw._replace(train=[i._replace(classname="old") for i in draw.train]), "/DATA/")
    assert few_shot(split, 2, 1, str(tmp_path)).train == draw.train


def test_a_draw_that_leaks_test_images_is_refused_with_the_count(tmp_path: Path) -> None:
    split = make_split()
    other = Split([*split.test[:2], *draw_images(split, 2, 1).train[2:]], draw_images(split, 2, 1).val, [])
    file = leave_draw(tmp_path, other, "/DATA/")
    with pytest.raises(ValueError, match=r"2 of its 10 train images .* \(2 are test images\)") as caught:
        few_shot(split, 2, 1, str(tmp_path))
    assert str(file) in str(caught.value)


def test_a_draw_of_another_data_set_is_refused(tmp_path: Path) -> None:
    leave_draw(tmp_path, Split([Item("x/1.jpg", 0, "x")], [], []), "/DATA/")
    with pytest.raises(ValueError, match=r"1 of its 1 train images .* first: /DATA/x/1.jpg"):
        few_shot(make_split(), 2, 1, str(tmp_path))


class Attack:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (lambda marker: Attack(os.system, f"touch {marker}"), "system"),
        (lambda marker: Attack(eval, f"open({marker!r}, 'w')"), "builtins.eval"),
        (lambda marker: Attack(open, marker, "w"), "open"),
        (lambda marker: {"train": [Attack(os.mkdir, marker)], "val": []}, "mkdir"),
    ],
)
def test_nothing_is_executed(tmp_path: Path, attack: Any, name: str) -> None:
    marker = tmp_path / "executed"
    file = dump(tmp_path, attack(str(marker)))
    with pytest.raises(ValueError, match=name) as caught:
        load_legacy_draw(str(file), make_split())
    assert str(file) in str(caught.value)
    assert not marker.exists()
    pickle.loads(file.read_bytes())  # the file is what it seems: a plain reader executes it
    assert marker.exists()


def test_attributes_of_the_datum_cannot_be_asked_for(tmp_path: Path) -> None:
    # Protocol 4 lets a file name "Datum.__init__.__globals__" and walk from there.
    file = tmp_path / "shot_2-seed_1.pkl"
    parts = [MODULE.encode(), b"Datum.__init__"]
    file.write_bytes(b"\x80\x04" + b"".join(b"\x8c" + bytes([len(p)]) + p for p in parts) + b"\x93.")
    with pytest.raises(ValueError, match=r"Datum\.__init__"):
        load_legacy_draw(str(file), make_split())


@pytest.mark.parametrize("content", [None, [], {"train": []}, {"train": [1]}, {"train": 5}, {"val": []}])
def test_a_pickle_of_something_else_is_named(tmp_path: Path, content: Any) -> None:
    file = dump(tmp_path, content)
    with pytest.raises(ValueError, match="not a few-shot draw"):
        load_legacy_draw(str(file), make_split())


def test_a_broken_pickle_is_named(tmp_path: Path) -> None:
    file = leave_draw(tmp_path, draw_images(make_split(), 2, 1), "/DATA/")
    for content in (b"", b"no pickle", file.read_bytes()[:-40]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file.name} is not a few-shot draw"):
            load_legacy_draw(str(file), make_split())
