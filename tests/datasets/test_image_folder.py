import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.fewshot import draw_images
from datasets.image_folder import ImageFolder
from datasets.split import Item, save_split
from runs.record import read_record
from tests.datasets.layouts import Link, make_cfg, rows, sizes


def build(root: Path, shots: int = -1, seed: int = 1, **options: Any) -> ImageFolder:
    cfg = make_cfg(root, shots, seed)
    for key, value in options.items():
        assert key in cfg.DATASET.IMAGE_FOLDER
        cfg.DATASET.IMAGE_FOLDER[key] = value
    return ImageFolder(cfg)


def test_three_folders_are_the_split(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    link_images(tmp_path, ["train/b_1/1.jpg", "train/a/2.PNG", "train/a/.DS_Store", "train/a/notes.txt"])
    link_images(tmp_path, ["val/a/3.jpg", "test/a/4.jpg", "test/b_1/5.jpg", "elsewhere/x.jpg"])
    data = build(tmp_path)
    assert rows(data.train_x, tmp_path) == [Item("train/a/2.PNG", 0, "a"), Item("train/b_1/1.jpg", 1, "b_1")]
    assert rows(data.val, tmp_path) == [Item("val/a/3.jpg", 0, "a")]
    assert rows(data.test, tmp_path) == [Item("test/a/4.jpg", 0, "a"), Item("test/b_1/5.jpg", 1, "b_1")]
    assert capsys.readouterr().out == (
        "Warning: folders beside train, val, test are left out, they are no part: elsewhere\n"
        "Warning: 1 files are left out, by their names no images, first: train/a/notes.txt\n"
    )


@pytest.mark.parametrize("train", ["train", "Train", "training"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "Valid"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_parts_by_other_names(tmp_path: Path, link_images: Link, train: str, val: str, test: str) -> None:
    names = [f"{part}/{c}/{i}.jpg" for i, part in enumerate((train, val, test)) for c in "ab"]
    link_images(tmp_path, names)
    data = build(tmp_path)
    assert sizes(data) == (2, 2, 2, 2)
    assert rows(data.val, tmp_path) == [Item(f"{val}/a/1.jpg", 0, "a"), Item(f"{val}/b/1.jpg", 1, "b")]


def test_two_folders_of_one_part_are_refused(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, [f"{part}/{c}/1.jpg" for part in ("train", "val", "valid", "test") for c in "ab"])
    with pytest.raises(ValueError, match=f"^{tmp_path} has both val and valid, which mean the same part"):
        build(tmp_path)


def test_images_below_a_class_are_of_the_class(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    flat = [f"{c}/{i}.jpg" for c in "ab" for i in range(10)]
    deep = [f"a/2024/{i}.jpg" for i in range(6)] + [f"b/x/y/{i}.jpg" for i in range(4)]
    link_images(
        tmp_path,
        [*flat, *deep, "a/.thumbnails/1.jpg", "b/__MACOSX/1.jpg", "a/x.jpg/no_image_but_a_folder.txt"],
    )
    data = build(tmp_path)
    found = {item.path for part in (data.train_x, data.val, data.test) for item in rows(part, tmp_path)}
    assert found == {*flat, *deep}
    out = capsys.readouterr().out
    assert "10 of the 30 images lie in folders below their class's, first: a/2024/0.jpg" in out
    assert "1 files are left out, by their names no images, first: a/x.jpg/no_image" in out
    data = build(tmp_path, NESTED=False)
    assert sizes(data) == (2, 10, 4, 6)
    assert "Warning: 3 folders are left out, below those of classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("link", "target"),
    [("a/up", ".."), ("a/self", "."), ("a/x/up", ".."), ("c", "a"), ("a/other", "../b"), ("a/z", "x")],
)
def test_a_folder_that_is_there_twice_is_refused(
    tmp_path: Path, link_images: Link, link: str, target: str
) -> None:
    link_images(tmp_path, [f"{c}/{i}.jpg" for c in ("a", "b", "a/x") for i in range(9)])
    (tmp_path / link).symlink_to(target)
    with pytest.raises(
        ValueError, match=f"^{tmp_path}/.* is the same folder as {tmp_path}/.*: remove the link$"
    ):
        build(tmp_path)


def test_a_link_to_somewhere_else_is_followed(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path / "far", [f"{i}.jpg" for i in range(10)])
    link_images(tmp_path / "near", [f"a/{i}.jpg" for i in range(10)])
    (tmp_path / "near" / "b").symlink_to(tmp_path / "far")
    assert sizes(build(tmp_path / "near")) == (2, 10, 4, 6)


def test_sets_that_may_have_been_taken_for_classes_are_named(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    link_images(tmp_path, [f"{s}/{c}/{i}.jpg" for s in ("one", "two") for c in "ab" for i in range(9)])
    build(tmp_path)
    assert (
        "Warning: one, two are taken for classes, and all have the folders a, b; if"
        in capsys.readouterr().out
    )


def test_images_in_no_class_are_named(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    link_images(tmp_path, [*(f"{p}/{c}/1.jpg" for p in ("train", "test") for c in "ab"), "train/2.jpg"])
    build(tmp_path)
    assert "Warning: 1 files are left out, in no class folder, first: train/2.jpg" in capsys.readouterr().out


def test_one_class_tells_nothing(tmp_path: Path, link_images: Link) -> None:
    """For instance a root one folder too high."""
    link_images(tmp_path, [f"images/{c}/{i}.jpg" for c in "ab" for i in range(9)])
    with pytest.raises(
        ValueError, match=f"{tmp_path} has one class only, 'images', and nothing to tell it from"
    ):
        build(tmp_path)


def test_classes_that_are_not_tested_are_named(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    link_images(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "test/b/2.jpg"])
    build(tmp_path)
    assert (
        "Warning: 1 classes have no test images, the results say nothing of them: a\n"
        in capsys.readouterr().out
    )


def test_zero_shots_are_all_images_and_said_to_be(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    link_images(tmp_path, [f"{c}/{i}.jpg" for c in "ab" for i in range(10)])
    assert sizes(build(tmp_path, 0)) == (2, 10, 4, 6)
    assert "DATASET.NUM_SHOTS is 0: all 10 training images are used" in capsys.readouterr().out
    build(tmp_path, -1)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_a_name_in_another_encoding_is_named(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, [f"{c}/{i}.jpg" for c in "ab" for i in range(9)])
    os.rename(tmp_path / "a" / "0.jpg", os.fsencode(tmp_path / "a") + b"/caf\xe9.jpg")
    with pytest.raises(
        ValueError, match=r"name of 'a/caf\\udce9.jpg' is not written in UTF-8: rename the file"
    ):
        build(tmp_path)


def folds(root: Path, link_images: Link) -> None:
    link_images(root, [f"{i}.jpg" for i in range(20)])
    for fold in range(2):
        lines = [f"{i}.jpg,{'ab'[i % 2]},{'test' if i // 10 == fold else 'train'}\n" for i in range(20)]
        (root / f"fold{fold}.csv").write_text("path,class,split\n" + "".join(lines))


def test_each_fold_has_draws_of_its_own(tmp_path: Path, link_images: Link) -> None:
    folds(tmp_path, link_images)
    one, two = (build(tmp_path, 2, CSV=f"fold{fold}.csv") for fold in range(2))
    assert {Path(d.impath).stem for d in one.train_x} <= set(map(str, range(10, 20)))
    assert {Path(d.impath).stem for d in two.train_x} <= set(map(str, range(10)))
    assert one.few_shot_hash != two.few_shot_hash
    kept = sorted(
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "split_fewshot").rglob("*.json")
    )
    assert kept == [f"split_fewshot/fold{fold}/shot_2-seed_1.json" for fold in range(2)]
    assert build(tmp_path, 2, CSV="fold0.csv").few_shot_hash == one.few_shot_hash
    assert "fold0" in build(tmp_path, 2, CSV="fold0.csv", SPLIT_SEED=0).draw_folder


def test_each_split_seed_has_draws_of_its_own(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, [f"{c}/{i}.jpg" for c in "ab" for i in range(20)])
    assert build(tmp_path, 3).few_shot_hash != build(tmp_path, 3, SPLIT_SEED=5).few_shot_hash
    assert (tmp_path / "split_fewshot" / "split_seed_5" / "shot_3-seed_1.json").is_file()


def test_a_draw_where_those_of_tables_once_lay_is_mentioned(
    tmp_path: Path, link_images: Link, capsys: pytest.CaptureFixture
) -> None:
    folds(tmp_path, link_images)
    drawn = build(tmp_path, 2, CSV="fold0.csv")
    kept = tmp_path / "split_fewshot" / "fold0" / "shot_2-seed_1.json"
    older = tmp_path / "split_fewshot" / kept.name
    kept.rename(older)
    capsys.readouterr()
    assert build(tmp_path, 2, CSV="fold0.csv").few_shot_hash == drawn.few_shot_hash  # the same draw
    assert "Warning" not in capsys.readouterr().out
    kept.unlink()
    save_split(draw_images(drawn.read_split(), 2, 77), str(older))
    assert build(tmp_path, 2, CSV="fold0.csv").few_shot_hash == drawn.few_shot_hash
    assert f"Warning: {older} is not taken; if it is a draw of this split, move it into {kept.parent}" in (
        capsys.readouterr().out
    )


def test_a_test_folder_alone_is_for_testing_only(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, ["test/a/4.jpg", "test/b/5.jpg"])
    data = build(tmp_path, 16)
    assert sizes(data) == (2, 2, 0, 2)
    assert data.few_shot_hash == ""


def test_one_folder_is_split_by_a_seed_of_its_own(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, [f"{c}/{i}.jpg" for c in ("bus", "train", "val") for i in range(20)])
    data = build(tmp_path, seed=1)
    assert data.classnames == ["bus", "train", "val"]
    assert sizes(data) == (3, 30, 12, 18)
    assert Counter(d.label for d in data.val) == {0: 4, 1: 4, 2: 4}
    assert rows(build(tmp_path, seed=2).test, tmp_path) == rows(data.test, tmp_path)
    assert rows(build(tmp_path, SPLIT_SEED=1).test, tmp_path) != rows(data.test, tmp_path)
    few = build(tmp_path, 5, 1)
    assert (tmp_path / "split_fewshot" / "shot_5-seed_1.json").is_file()
    assert rows(build(tmp_path, 5, 1).train_x, tmp_path) == rows(few.train_x, tmp_path)  # and it is no class


def test_a_csv_file_is_the_split(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path / "photos", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    table = (
        "split,path,class\ntrain,photos/1.jpg,red fox\ntrain,photos/2.jpg,badger\ntest,photos/3.jpg,badger\n"
    )
    (tmp_path / "list.csv").write_text(table, encoding="utf-8-sig")
    data = build(tmp_path, CSV="list.csv", TEMPLATE="a trap camera's photo of a {}.")
    assert rows(data.train_x, tmp_path) == [
        Item("photos/1.jpg", 1, "red fox"),
        Item("photos/2.jpg", 0, "badger"),
    ]
    assert rows(data.test, tmp_path) == [Item("photos/3.jpg", 0, "badger")]
    assert data.template == "a trap camera's photo of a {}."


def test_a_csv_file_without_parts_is_split_by_seed(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, [f"{i}.jpg" for i in range(20)])
    lines = [f"{i}.jpg,{'ab'[i % 2]}\r\n" for i in range(20)]
    (tmp_path / "list.csv").write_text("path,class\r\n" + "".join(lines), newline="")
    assert sizes(build(tmp_path, CSV="list.csv")) == (2, 10, 4, 6)
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 of the 20 images"):
        build(tmp_path, CSV="list.csv")


def test_class_names_come_from_a_file(tmp_path: Path, link_images: Link) -> None:
    link_images(tmp_path, ["train/n01/1.jpg", "train/n02/2.jpg", "test/n01/3.jpg"])
    (tmp_path / "names.json").write_text(json.dumps({"n01": "tench", "n02": "goldfish", "n03": "shark"}))
    assert build(tmp_path, CLASS_NAMES="names.json").classnames == ["tench", "goldfish"]
    (tmp_path / "names.json").write_text(json.dumps({"n01": "tench"}))
    with pytest.raises(ValueError, match=r"names.json has no 'n02'"):
        build(tmp_path, CLASS_NAMES="names.json")


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "has no class folders"),
        ({"a/1.txt": ""}, {}, "a has no images"),
        ({f"{c}/{i}.jpg": "" for c in "ab" for i in range(3)}, {}, "class 'a' has 3 images, too few"),
        ({f"{p}/{c}/1.jpg": "" for p in ("train", "val") for c in "ab"}, {}, "has no test images"),
        ({"train/a/1.jpg": "", "test/b/2.jpg": ""}, {}, r"class 'b' \(label 1\) has no training images"),
        (
            {"train/a_b/1.jpg": "", "train/a b/2.jpg": "", "test/a b/3.jpg": ""},
            {},
            "have the same class name",
        ),
        *(
            ({}, {"TEMPLATE": text}, f"TEMPLATE '{re.escape(text)}' must have one {{}} for the class name")
            for text in (
                "a photo",
                "a {} photo {x}",
                "a {} {",
                "a {} }",
                "{{}}",
                "{} and {}",
                "a {0}",
                "a {:>9}",
            )
        ),
        ({"train/a/.x.jpg": "", "train/b/1.jpg": ""}, {}, "train/a is empty"),
        (
            {"a/1.jpg": "", "b/1.jpg": "", "n.json": '{"a": "x", "a": "y"}'},
            {"CLASS_NAMES": "n.json"},
            "'a' is there twice",
        ),
        (
            {"a/1.jpg": "", "b/1.jpg": "", "n.json": '{"a": " ", "b": "y"}'},
            {"CLASS_NAMES": "n.json"},
            "is no name",
        ),
        ({"x.csv": "path,label\n"}, {"CSV": "x.csv"}, "columns path, class and maybe split, not path, label"),
        ({"x.csv": "path,class,split\n1.jpg,a,dev\n"}, {"CSV": "x.csv"}, "x.csv, line 2: expected"),
        ({"x.csv": "path,class\n1.jpg\n"}, {"CSV": "x.csv"}, "x.csv, line 2: expected"),
        ({"x.csv": "path,class\n../1.jpg,a\n"}, {"CSV": "x.csv"}, "line 2: '../1.jpg' must be a path below"),
        ({"x.csv": "path,class\n1.jpg,a\n1.jpg,b\n"}, {"CSV": "x.csv"}, "line 3: 1.jpg is in line 2 already"),
        (
            {"a/1.jpg": "", "b/1.jpg": "", "n.json": "["},
            {"CLASS_NAMES": "n.json"},
            "n.json is not a JSON file",
        ),
        (
            {"a/1.jpg": "", "b/1.jpg": "", "n.json": "[]"},
            {"CLASS_NAMES": "n.json"},
            "n.json must be an object",
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, files: dict[str, str], options: dict[str, Any], message: str
) -> None:
    if "CLASS_NAMES" in options and files["n.json"][0] == "{":
        files = files | {f"{c}/{i}.jpg": "" for c in "ab" for i in range(9)}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        build(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_train_py_takes_its_options(
    run_train: Callable, short_run: list[object], tmp_path: Path, link_images: Link
) -> None:
    root = tmp_path / "photos"
    link_images(root, [f"{folder}/{i}.jpg" for folder in ("n01", "n02") for i in range(8)])
    (root / "names.json").write_text(json.dumps({"n01": "red fox", "n02": "badger"}))
    arguments = list(short_run)
    arguments[arguments.index("--root") + 1] = root
    arguments[arguments.index("--dataset-config-file") + 1] = "configs/datasets/image_folder.yaml"
    ended = run_train(
        *arguments,
        *("OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2),
        *("DATASET.IMAGE_FOLDER.TEMPLATE", "a trap camera's photo of a {}."),
        *("DATASET.IMAGE_FOLDER.CLASS_NAMES", "names.json"),
    )
    assert (ended.code, ended.err) == (0, "")
    record = read_record(tmp_path / "run")
    assert record["dataset"] == "ImageFolder"
    assert record["config"]["DATASET"]["IMAGE_FOLDER"]["CLASS_NAMES"] == "names.json"
    ended = run_train(*arguments, *("OUTPUT_DIR", tmp_path / "other", "DATASET.IMAGE_FOLDER.TEMPLAT", "x"))
    ended.assert_wrong_input("DATASET.IMAGE_FOLDER.TEMPLATE")


def test_classes_that_become_one_prompt_are_refused(
    run_train: Callable, short_run: list[object], tmp_path: Path, link_images: Link
) -> None:
    root = tmp_path / "photos"
    link_images(root, [f"{folder}/{i}.jpg" for folder in ("Fox", "fox", "badger") for i in range(8)])
    arguments = list(short_run)
    arguments[arguments.index("--root") + 1] = root
    arguments[arguments.index("--dataset-config-file") + 1] = "configs/datasets/image_folder.yaml"
    run_train(*arguments).assert_wrong_input("class names become one prompt", "'Fox' and 'fox'")
    (root / "names.json").write_text(json.dumps({"Fox": "arctic fox", "fox": "fox", "badger": "badger"}))
    more = ("OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
    assert run_train(*arguments, *more, "DATASET.IMAGE_FOLDER.CLASS_NAMES", "names.json").code == 0
