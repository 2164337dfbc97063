import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.image_folder import ImageFolder
from datasets.split import Item
from runs.record import read_record
from tests.datasets.layouts import Link, make_cfg, rows, sizes


def build(root: Path, shots: int = -1, seed: int = 1, **options: Any) -> ImageFolder:
    cfg = make_cfg(root, shots, seed)
    for key, value in options.items():
        cfg.merge_from_list([f"DATASET.IMAGE_FOLDER.{key}", value])
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
        "Warning: 1 files are left out, by their names no images, first: train/a/notes.txt\n"
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
        ({f"a/{i}.jpg": "" for i in range(3)}, {}, "class 'a' has 3 images, too few"),
        ({"train/a/1.jpg": "", "val/a/2.jpg": ""}, {}, "has no test images"),
        ({"train/a/1.jpg": "", "test/b/2.jpg": ""}, {}, r"class 'b' \(label 1\) has no training images"),
        (
            {"train/a_b/1.jpg": "", "train/a b/2.jpg": "", "test/a b/3.jpg": ""},
            {},
            "have the same class name",
        ),
        ({}, {"TEMPLATE": "a photo"}, "TEMPLATE 'a photo' must have one {}"),
        ({"x.csv": "path,label\n"}, {"CSV": "x.csv"}, "columns path, class and maybe split, not path, label"),
        ({"x.csv": "path,class,split\n1.jpg,a,dev\n"}, {"CSV": "x.csv"}, "x.csv, line 2: expected"),
        ({"x.csv": "path,class\n1.jpg\n"}, {"CSV": "x.csv"}, "x.csv, line 2: expected"),
        ({"x.csv": "path,class\n../1.jpg,a\n"}, {"CSV": "x.csv"}, "line 2: '../1.jpg' must be a path below"),
        ({"x.csv": "path,class\n1.jpg,a\n1.jpg,b\n"}, {"CSV": "x.csv"}, "line 3: 1.jpg is in line 2 already"),
        ({"a/1.jpg": "", "n.json": "["}, {"CLASS_NAMES": "n.json"}, "n.json is not a JSON file"),
        ({"a/1.jpg": "", "n.json": "[]"}, {"CLASS_NAMES": "n.json"}, "n.json must be an object"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, files: dict[str, str], options: dict[str, Any], message: str
) -> None:
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
