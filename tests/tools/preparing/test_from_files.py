"""Data sets from archives and folders that are here."""

import os
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT
from tests.tools.preparing.archives import ARCHIVE, IMAGES, SPLIT, TABLE, below, md5, names, packed
from tests.tools.preparing.server import Server
from tools.preparing.data_sets import load


def test_an_archive_that_is_here(server: Server, run: Any, put: Any) -> None:
    archive = put("EuroSAT.zip", ARCHIVE)
    split = put(EuroSAT.split_file, SPLIT)
    assert run("eurosat", "--archive", archive, split) == (TABLE, "")
    assert not server.asked
    assert archive.exists()


def test_an_archive_of_somebody_else(server: Server, run: Any, put: Any) -> None:
    other = packed(below("some/2750", IMAGES))
    archive = put("EuroSAT.zip", other)
    _, errors = run("eurosat", "--archive", archive)
    assert f"is not the authors' archive (md5 {md5(other)}, not {md5(ARCHIVE)}); --no-checksum" in errors
    assert run("eurosat", "--archive", archive, "--no-checksum") == (TABLE, "")


def test_an_archive_of_something_else(server: Server, run: Any, put: Any, tmp_path: Path) -> None:
    archive = put("dtd.zip", packed({"dtd/images/a.jpg": b""}))
    _, errors = run("eurosat", "--archive", archive, "--no-checksum")
    assert errors == f"error: eurosat: {archive}: no folder 2750 in it, but dtd"
    _, errors = run("eurosat", "--archive", put(EuroSAT.split_file, b"{}"))
    assert f"{EuroSAT.split_file} is not the published file" in errors


def test_what_is_there_is_never_replaced(server: Server, run: Any, put: Any, tmp_path: Path) -> None:
    mine = put("data/eurosat/list.txt", b"mine")
    run(
        "eurosat",
        "--archive",
        put("a.zip", packed(below("2750", IMAGES) | {"list.txt": b"theirs"})),
        "--no-checksum",
    )
    assert mine.read_bytes() == b"mine"


def test_malicious_archives_leave_nothing(server: Server, run: Any, put: Any, tmp_path: Path) -> None:
    _, errors = run(
        "eurosat",
        "--archive",
        put("a.zip", packed(below("2750", IMAGES) | {"../../x": b""})),
        "--no-checksum",
    )
    assert "'../../x', a path out of its folder; nothing is extracted" in errors
    assert names(tmp_path / "data" / "eurosat") == []
    assert names(tmp_path / "data") == [".downloads", "eurosat"]


@pytest.mark.parametrize("images_alone", [False, True])
def test_a_folder_that_is_elsewhere(server: Server, run: Any, tmp_path: Path, images_alone: bool) -> None:
    tree = tmp_path / "elsewhere" / "2750"
    for name, content in IMAGES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    if not images_alone:
        (tree.parent / "split_fewshot").mkdir()
        (tree.parent / "readme.txt").touch()
    before = sorted(tree.parent.rglob("*"))
    out, errors = run("eurosat", "--link", tree if images_alone else tree.parent)
    assert not errors
    assert out.endswith(TABLE)
    folder = tmp_path / "data" / "eurosat"
    assert os.readlink(folder / "2750") == str(tree)
    load("eurosat", str(tmp_path / "data"), "DATASET.NUM_SHOTS", 1, "SEED", 1)
    assert (folder / "split_fewshot" / "shot_1-seed_1.json").exists()
    assert sorted(tree.parent.rglob("*")) == before


def test_a_link_to_something_else(server: Server, run: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "images").mkdir(parents=True)
    _, errors = run("eurosat", "--link", tmp_path / "elsewhere")
    assert errors == f"error: eurosat: {tmp_path}/elsewhere has no folder 2750, but images"
