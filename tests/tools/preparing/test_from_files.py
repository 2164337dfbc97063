"""Data sets from archives and folders that are here."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT
from datasets.origin import Download
from tests.tools.preparing.archives import ARCHIVE, IMAGES, SPLIT, TABLE, below, md5, names, packed
from tests.tools.preparing.server import Server
from tools.prepare import main
from tools.preparing.data_sets import load
from tools.preparing.obtain import MIRROR


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


DEEPER = {
    "twice": below("2750/2750", IMAGES),
    "of another name": below("2750/EuroSAT_RGB", IMAGES),
    "three times": below("eurosat/2750/2750/2750", IMAGES),
    "with what macOS leaves": below("2750/2750", IMAGES)
    | {f"__MACOSX/2750/._{i}": b"x" for i in range(3)}
    | {"2750/.DS_Store": b"x", "2750/2750/._River": b"x"},
    "below a folder of classes": below("a/b/c", IMAGES),
    "beside other things": below("eurosat/2750/2750", IMAGES) | {"eurosat/readme.txt": b"mine"},
}


@pytest.mark.parametrize("what", DEEPER)
def test_an_archive_whose_folders_lie_deeper(
    server: Server, run: Any, put: Any, tmp_path: Path, what: str
) -> None:
    archive = put("EuroSAT.zip", packed(DEEPER[what]))
    assert run("eurosat", "--archive", archive, "--no-checksum") == (TABLE, "")
    folder = tmp_path / "data" / "eurosat"
    assert names(folder / "2750") == sorted({name.partition("/")[0] for name in IMAGES})
    expected = {"2750", ".verified.json", EuroSAT.split_file}
    assert {*names(folder)} == expected | ({"readme.txt"} if "beside" in what else set())


def test_a_link_to_a_folder_that_lies_deeper(server: Server, run: Any, tmp_path: Path) -> None:
    tree = tmp_path / "elsewhere"
    for name, content in IMAGES.items():
        (tree / "eurosat/2750/2750" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "eurosat/2750/2750" / name).write_bytes(content)
    out, errors = run("eurosat", "--link", tree)
    assert (out[-len(TABLE) :], errors) == (TABLE, "")
    assert os.readlink(tmp_path / "data/eurosat/2750") == str(tree / "eurosat/2750/2750")


def other_split() -> bytes:
    """With as many images of each part and class, of which two have changed places."""
    split = json.loads(SPLIT)
    split["train"][0], split["test"][0] = split["test"][0], split["train"][0]
    return json.dumps(split).encode()


def test_a_wrong_split_file_is_noticed_and_replaced(
    server: Server, run: Any, put: Any, tmp_path: Path
) -> None:
    put(f"data/eurosat/{EuroSAT.split_file}", other_split())
    _, errors = run("eurosat")
    assert f"{EuroSAT.split_file} is not the published file" in errors
    assert errors.endswith("--force fetches that and keeps the other one aside")
    out, errors = run("eurosat", "--force")
    assert (out[-len(TABLE) :], errors) == (TABLE, "")
    folder = tmp_path / "data/eurosat"
    assert f"is replaced; the old one is {EuroSAT.split_file}.replaced\n" in out
    assert (folder / EuroSAT.split_file).read_bytes() == SPLIT
    assert (folder / f"{EuroSAT.split_file}.replaced").read_bytes() == other_split()
    server.asked.clear()
    assert run("eurosat", "--force") == (TABLE, "")  # nothing is left to be replaced
    assert not server.asked


def test_a_split_file_without_a_known_checksum(
    server: Server, run: Any, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of Food-101 and SUN397."""
    files = {EuroSAT.split_file: Download(f"drive:{EuroSAT.split_file}")}
    assert EuroSAT.origin
    monkeypatch.setattr(EuroSAT, "origin", replace(EuroSAT.origin, files=files))
    short = json.dumps({part: rows[:-10] for part, rows in json.loads(SPLIT).items()}).encode()
    archive, placed = put("EuroSAT.zip", ARCHIVE), tmp_path / "data/eurosat" / EuroSAT.split_file
    _, errors = run("eurosat", "--archive", archive, put(f"x/{EuroSAT.split_file}", short))
    assert "is not the published split: it has" in errors
    assert not placed.exists()  # what is wrong is not placed
    assert run("eurosat", "--archive", archive, put(f"y/{EuroSAT.split_file}", other_split()))[1] == ""
    given = put(f"z/{EuroSAT.split_file}", SPLIT)
    _, errors = run("eurosat", "--archive", given)
    assert errors == (
        f"error: eurosat: {placed} is another file than {given}: --force replaces it, and keeps the old one aside"
    )
    out, errors = run("eurosat", "--archive", given, "--force")
    assert (out[-len(TABLE) :], errors, placed.read_bytes()) == (TABLE, "", SPLIT)


def test_a_disk_that_fills_says_so_and_what_was_there_stays(
    server: Server, put: Any, small_disk: Any, capsys: pytest.CaptureFixture
) -> None:
    folder, _ = small_disk
    noise = {name: content + os.urandom(60_000) for name, content in IMAGES.items()}
    archive = put("EuroSAT.zip", packed(below("2750", noise)))
    for words in (["--archive", str(archive), "--no-checksum"], ["--source", "mirror"], []):
        if not words:  # from the authors' own address, of which the mirror is the second choice
            server.add_to_hub("torchgeo/eurosat", {"EuroSAT.zip": archive.read_bytes()}, "dataset")
        server.add_to_hub(MIRROR, {"eurosat.zip": archive.read_bytes()}, "model")
        with pytest.raises(SystemExit) as ended:
            main(["eurosat", "--root", str(folder), "--workers", "1", *words])
        assert re.fullmatch(rf"error: eurosat: {folder}\S*: the disk is full, .*", str(ended.value.code)), (
            words
        )
        assert "mirror" not in capsys.readouterr().err
        kept = [path for path in folder.rglob("*") if path.is_file() and ".downloads" not in path.parts]
        assert kept == []


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
