"""Names and options, and what every data set declares."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT
from datasets.origin import Download, Origin
from runs import ROOT
from tests.tools.preparing.archives import ARCHIVE, TABLE
from tests.tools.preparing.server import Server
from tools import prepare


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eurosatt"], "'eurosatt' is unknown, the nearest is eurosat"),
        (["all", "dtd"], "all stands alone"),
        (["dtd", "eurosat", "--link", "."], "--archive and --link are for one data set"),
        (["dtd", "--link", ".", "--verify"], "exclude each other"),
        (["dtd", "--archive", "none.zip"], "there is no none.zip"),
        (["dtd", "--archive", "."], "--archive . is a folder; --link takes folders"),
        (["dtd", "--workers", "0"], "--workers 0 must be 1 or more"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_arguments(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        prepare.main([*words, "--root", str(tmp_path)])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_all_means_what_has_an_origin(tmp_path: Path) -> None:
    args = prepare.parse(["all", "--root", str(tmp_path)])
    table = (ROOT / "DATASETS.md").read_text(encoding="utf-8").partition("## The benchmarks")[2]
    named = re.findall(r"^\| `(\w+)` \|", table.partition("## Preparing")[0], re.MULTILINE)
    assert set(args.names) == set(named) > {"imagenet", "imagenetv2", "ucf101"}


def test_every_declaration_is_whole() -> None:
    for name in prepare.parse(["all", "--root", "x"]).names:
        dataset = prepare.data_sets()[name]
        origin = dataset.origin
        assert isinstance(origin, Origin)
        assert all(len(item.md5) in (0, 32) for item in [*origin.archives, *origin.files.values()])
        assert not dataset.split_file or dataset.split_file in origin.files
        assert origin.archives or origin.mirrored or origin.by_hand
        docs = (ROOT / "DATASETS.md").read_text(encoding="utf-8")
        for item in [*origin.archives, *origin.files.values()]:
            assert item.md5 in docs
            assert item.source.partition(":")[2].rpartition("/")[2].strip("*") in docs
        assert f"| {' / '.join(f'{size:,}' if size else '-' for size in origin.sizes[1:])} |" in docs


def test_an_unknown_checksum_is_said(server: Server, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/eurosat.zip"] = ARCHIVE
    source = f"{server.address}/eurosat.zip"
    monkeypatch.setattr(EuroSAT, "origin", replace(EuroSAT.origin, archives=[Download(source)]))
    out, errors = run("eurosat")
    assert not errors
    assert out == (
        f"eurosat: no checksum of {source} is known; what it holds is verified all the same\n{TABLE}"
    )


def test_verifying_what_is_not_there(run: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "dtd").mkdir(parents=True)
    out, errors = run("eurosat", "--verify")
    assert "NOT READY" in out
    assert f"there is no folder {tmp_path}/data/eurosat ({tmp_path}/data has dtd)" in errors
    assert "prepare.py EuroSAT --root" in errors
    assert "\n" not in errors
