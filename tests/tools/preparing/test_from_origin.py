"""Data sets from their origins and from the mirror."""

import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT
from runs import ROOT
from tests import copies
from tests.interruption import at_touch
from tests.tools.preparing.archives import ARCHIVE, IMAGES, SPLIT, TABLE, below, jpeg, names, packed
from tests.tools.preparing.server import Server
from tools.preparing import obtain
from tools.preparing.place import Place, only_one


def test_from_the_origin_and_again_at_no_cost(server: Server, run: Any, tmp_path: Path) -> None:
    out, errors = run("eurosat")
    assert (out, errors) == (TABLE, "")
    assert names(tmp_path / "data" / "eurosat") == [".verified.json", "2750", EuroSAT.split_file]
    assert names(tmp_path / "data" / ".downloads") == ["eurosat.lock"]
    server.asked.clear()
    for path in (tmp_path / "data" / "eurosat" / "2750").rglob("*.jpg"):
        path.write_bytes(b"not read again")
    assert run("EuroSAT")[0].endswith(TABLE)
    assert not server.asked


def test_from_the_mirror_when_the_origin_fails(
    server: Server, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    del server.files["/api/datasets/torchgeo/eurosat/tree/main"]
    inside = {"2750/x": b"", EuroSAT.split_file: SPLIT, "split_fewshot/shot_1-seed_1.pkl": pickle.dumps([])}
    mirror = packed(below("eurosat", inside | below("2750", IMAGES)))
    server.add_to_hub(obtain.MIRROR, {"eurosat.zip": mirror, "dtd.zip": b""}, "model")
    out, errors = run("eurosat")
    assert not errors
    assert "fetching it from the mirror" in out
    assert out.endswith(TABLE)
    assert names(tmp_path / "data" / "eurosat") == [".verified.json", "2750", EuroSAT.split_file]


def test_when_nobody_has_it(server: Server, run: Any, tmp_path: Path) -> None:
    del server.files["/api/datasets/torchgeo/eurosat/tree/main"]
    out, errors = run("eurosat")
    assert "eurosat   NOT READY" in out
    assert errors.startswith(f"error: eurosat: {obtain.MIRROR} on the Hugging Face hub: ")
    assert "404" in errors
    assert errors.endswith("give it with --archive FILE")
    assert "\n" not in errors
    _, errors = run("eurosat", "--source", "origin")
    assert errors.startswith("error: eurosat: torchgeo/eurosat on the Hugging Face hub: ")


def test_when_the_split_cannot_be_fetched(server: Server, run: Any, tmp_path: Path) -> None:
    split = server.files.pop(f"/uc?id={EuroSAT.split_file}")
    out, errors = run("eurosat")
    assert "NOT READY" in out
    assert "Google Drive" in errors
    assert "with a browser from" in errors
    server.files[f"/uc?id={EuroSAT.split_file}"] = split
    server.asked.clear()
    assert run("eurosat") == (TABLE, "")
    assert {path for path, _ in server.asked} == {f"/uc?id={EuroSAT.split_file}"}  # the images were there


def test_others_are_prepared_when_one_fails(
    server: Server, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obtain, "MIRROR", "no/mirror")
    out, errors = run("stanford_cars", "eurosat", "handwritten_digits")
    lines = out.splitlines()[-4:]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["stanford_cars", "NOT", "READY"],
        ["eurosat", "ready", "10"],
        ["handwritten_digits", "ready", "10"],
    ]
    assert errors.startswith("error: stanford_cars: no/mirror on the Hugging Face hub")


def test_what_breaks_off_never_looks_complete(server: Server, run: Any, tmp_path: Path) -> None:
    broken = ARCHIVE.replace(jpeg(49), jpeg(49)[:-4] + b"xxxx")
    assert broken != ARCHIVE
    path = tmp_path / "EuroSAT.zip"
    path.write_bytes(broken)
    _, errors = run("eurosat", "--archive", path, "--no-checksum")
    assert "EuroSAT.zip is damaged" in errors
    assert names(tmp_path / "data" / "eurosat") == []


def test_a_run_that_is_killed_while_it_extracts(server: Server, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(packed({f"2750/{i}.jpg": bytes(2_000) for i in range(20)}))
    folder = tmp_path / "data" / "eurosat"
    words = ["eurosat", "--root", str(tmp_path / "data"), "--archive", str(path), "--no-checksum"]
    killed = copies.run(
        [sys.executable, ROOT / "tools/prepare.py", *words],
        env=at_touch(10, folder, "kill run", tmp_path / "killed", "/2750/", "prepare.py"),
    )
    assert killed.returncode == -signal.SIGKILL
    (left,) = names(folder)
    assert left.startswith(".extracting-")
    assert run("eurosat") == (TABLE, "")
    assert names(folder) == [".verified.json", "2750", EuroSAT.split_file]


def test_two_at_the_same_moment(server: Server, run: Any, tmp_path: Path) -> None:
    place = Place("eurosat", EuroSAT, tmp_path / "data")
    with only_one(place):
        assert run("eurosat")[1] == "error: eurosat: another process prepares it at this moment"
    assert run("eurosat") == (TABLE, "")
