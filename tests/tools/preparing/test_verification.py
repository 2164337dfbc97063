"""What is there is read and compared with what was published."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT
from tests.tools.preparing.archives import SPLIT, jpeg, md5
from tests.tools.preparing.server import Server


def test_missing_images_are_counted_and_named(eurosat: Path, run: Any) -> None:
    for number in range(5):
        (eurosat / f"2750/Forest/Forest_{number}.jpg").unlink()
    (eurosat / "2750/River/River_0.jpg").unlink()
    _, errors = run("eurosat")
    first = ", ".join(f"Forest/Forest_{i}.jpg" for i in (0, 1))
    assert errors.startswith("error: eurosat: 6 of the 50 images that")
    assert first in errors
    assert errors.count(".jpg") == 5
    assert errors.endswith(f"move {eurosat} away and run this again to begin anew")


def test_verify_reads_everything_again(eurosat: Path, run: Any, server: Server) -> None:
    (eurosat / "2750/River/River_0.jpg").write_bytes(b"no image")
    (eurosat / "2750/River/River_1.jpg").write_bytes(jpeg(0)[:-60])
    server.asked.clear()
    _, errors = run("eurosat", "--verify")
    assert errors.startswith(
        "error: eurosat: 2 of the 50 images of eurosat cannot be read, first: River/River_0.jpg (not an"
    )
    assert run("eurosat", "--verify", "--quick")[0].endswith("20   10    20  50 images there, not decoded\n")
    assert "cannot be read" in run("eurosat")[1]  # the quick look is not remembered for more than it was
    assert not server.asked


def test_other_kinds_of_images_are_named(eurosat: Path, run: Any) -> None:
    for number, mode in enumerate(("L", "CMYK", "P", "L")):
        (eurosat / f"2750/River/River_{number}.jpg").write_bytes(jpeg(0, mode))
    out, _ = run("eurosat", "--verify")
    note = "50 images decoded, 1 CMYK (read as RGB), 2 grey (read as RGB), 1 palette (read as RGB)"
    assert out.endswith(f"20   10    20  {note}\n")


def test_another_split_than_the_published_one(eurosat: Path, run: Any) -> None:
    other = SPLIT + b"\n"
    (eurosat / EuroSAT.split_file).write_bytes(other)
    _, errors = run("eurosat")
    assert f"{EuroSAT.split_file} is not the published file (md5 {md5(other)}, not" in errors
    (eurosat / EuroSAT.split_file).unlink()
    assert "the published split" in run("eurosat", "--verify")[1]


def test_other_numbers_than_published(
    server: Server, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert EuroSAT.origin
    monkeypatch.setattr(EuroSAT, "origin", replace(EuroSAT.origin, sizes=(10, 13_500, 5_400, 8_100)))
    _, errors = run("eurosat")
    assert (
        "10 / 20 / 10 / 20 classes, training, validation and test images where 10 / 13,500 / 5,400" in errors
    )


def test_a_folder_that_cannot_be_written(eurosat: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (eurosat / ".verified.json").unlink()
    (eurosat / ".verified.json").mkdir()  # as good as a read-only disk, for root too
    assert "Not remembered that eurosat is right" in run("eurosat")[0]


def test_verify_of_what_is_not_there(server: Server, run: Any, tmp_path: Path) -> None:
    _, errors = run("eurosat", "dtd", "--verify")
    assert [line.split(": ")[1] for line in errors.splitlines()] == ["eurosat", "dtd"]
    assert not (tmp_path / "data").exists()
