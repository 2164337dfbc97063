from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.eurosat import EuroSAT
from datasets.origin import Download
from tests.tools.preparing.archives import ARCHIVE, SIZES, SPLIT, TABLE, md5, publish
from tests.tools.preparing.server import Server, running
from tools import prepare
from tools.preparing import download


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The hub, Google Drive and everybody's own servers, with a small EuroSAT as the published one."""
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with running() as server:
        server.become_the_hub(monkeypatch)
        monkeypatch.setattr(download, "DRIVE", f"{server.address}/uc?id=")
        publish(monkeypatch, server, EuroSAT, SIZES, SPLIT, [])
        origin = replace(
            EuroSAT.origin, archives=[Download("hub:torchgeo/eurosat/EuroSAT.zip", md5(ARCHIVE))]
        )
        monkeypatch.setattr(EuroSAT, "origin", origin)
        server.add_to_hub("torchgeo/eurosat", {"EuroSAT.zip": ARCHIVE, "README.md": b""}, "dataset")
        yield server


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., tuple[str, str]]:
    """Run the tool on the data root tmp_path/data; returns what it printed and its errors."""

    def run(*words: object) -> tuple[str, str]:
        errors = ""
        try:
            prepare.main([*map(str, words), "--root", str(tmp_path / "data"), "--workers", "1"])
        except SystemExit as end:
            errors = str(end.code)  # a text, which Python prints before it exits with code 1
        return capsys.readouterr().out, errors

    return run


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def put(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


@pytest.fixture
def eurosat(server: Server, run: Any, tmp_path: Path) -> Path:
    assert run("eurosat") == (TABLE, "")
    return tmp_path / "data" / "eurosat"
