import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs import ROOT
from tests import copies
from tests.tools.preparing.server import Server, running
from tools.preparing import download
from tools.preparing.download import fetch

CONTENT = random.Random(0).randbytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with running() as server:
        server.files["/a.zip"] = CONTENT
        yield server


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = fetch(f"{server.address}/a.zip", tmp_path / "new", MD5)
    assert path == tmp_path / "new" / "a.zip"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert fetch(f"{server.address}/a.zip", tmp_path / "new", MD5) == path
    assert len(server.asked) == 1


def test_a_connection_that_breaks_is_gone_on_with(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    server.cut = [1_000_000, 500_000]
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["", "bytes=1000000-", "bytes=1500000-"]
    assert "ended after 1,000,000 of 3,000,000 bytes; trying again" in capsys.readouterr().out


def test_the_next_call_goes_on_after_an_interruption(server: Server, tmp_path: Path) -> None:
    server.cut = [1_000_000] + [0] * 5
    with pytest.raises(
        ConnectionError, match=r"5 attempts\); 1,000,000 bytes are kept, the next call goes on"
    ):
        fetch(f"{server.address}/a.zip", tmp_path, MD5)
    assert not (tmp_path / "a.zip").exists()
    server.asked.clear()
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT
    assert server.asked == [("/a.zip", "bytes=1000000-")]


def test_a_process_that_is_killed_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.pause = 60
    program = tmp_path / "program.py"
    program.write_text(
        f"from tools.preparing.download import *; fetch('{server.address}/a.zip', Path({str(tmp_path)!r}))"
    )
    process = copies.start([sys.executable, program], cwd=ROOT, stderr=subprocess.PIPE)
    part, wait_until = tmp_path / "a.zip.part", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 1_000_000) and time.monotonic() < wait_until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.pause = 0
    there = part.stat().st_size
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.zip", f"bytes={there}-")


@pytest.mark.parametrize("weakness", ["no ranges", "no identity", "another file", "longer part"])
def test_what_does_not_fit_is_begun_anew(server: Server, tmp_path: Path, weakness: str) -> None:
    server.etag = weakness != "no identity"
    server.files["/a.zip"] = b"old" * 1_000_000 if weakness == "another file" else CONTENT
    server.cut = [1_000_000] + [0] * 5
    with pytest.raises(ConnectionError):
        fetch(f"{server.address}/a.zip", tmp_path, MD5)
    server.ranges = weakness != "no ranges"
    server.files["/a.zip"] = CONTENT
    if weakness == "longer part":
        (tmp_path / "a.zip.part").write_bytes(b"x" * 3_000_001)
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    server.cut = [1_000_000] + [0] * 5
    with pytest.raises(ConnectionError):
        fetch(f"{server.address}/a.zip", tmp_path, MD5)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT


def test_a_wrong_checksum_names_both_and_removes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"a.zip: the checksum of what came .md5 {MD5}. is not .*0000"):
        fetch(f"{server.address}/a.zip", tmp_path, "0" * 32)
    assert not list(tmp_path.iterdir())


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    server.status["/old.zip"] = (302, f"{server.address}/a.zip")
    assert fetch(f"{server.address}/old.zip", tmp_path, MD5) == tmp_path / "old.zip"


def test_redirects_in_a_circle_end(server: Server, tmp_path: Path) -> None:
    server.status["/old.zip"] = (302, "/old.zip")
    with pytest.raises(OSError, match=r"old.zip: the server answers 302"):
        fetch(f"{server.address}/old.zip", tmp_path)


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (503, 5)])
def test_an_answer_that_is_no_file(server: Server, tmp_path: Path, code: int, requests: int) -> None:
    server.status["/a.zip"] = (code, "")
    with pytest.raises(OSError, match=f"a.zip: the server answers {code} ") as caught:
        fetch(f"{server.address}/a.zip", tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == requests
    assert not (tmp_path / "a.zip").exists()


def test_a_server_that_falls_silent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.pause = 1.5
    server.cut = [1_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(ConnectionError, match=r"no answer for 0.2 s \(5 attempts\); [\d,]+ bytes are kept"):
        fetch(f"{server.address}/a.zip", tmp_path, MD5)
    server.pause = 0
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT


def test_a_slow_server_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.pause = 1.0
    assert fetch(f"{server.address}/a.zip", tmp_path, MD5).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with running() as server:
        address = server.address
    with pytest.raises(ConnectionError, match="Connection refused"):
        fetch(f"{address}/a.zip", tmp_path)


def test_google_drive(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DRIVE", f"{server.address}/uc?id=")
    server.files["/uc?id=abc"] = CONTENT
    assert fetch("drive:abc", tmp_path, MD5).read_bytes() == CONTENT
    with pytest.raises(OSError, match=r"Google Drive: .*404.*; fetch it with a browser from .*uc\?id=none"):
        fetch("drive:none", tmp_path)
    with pytest.raises(ValueError, match="the checksum"):
        fetch("drive:abc", tmp_path / "other", "0" * 32)


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    server.become_the_hub(monkeypatch)
    return server


def test_the_hub(hub: Server, tmp_path: Path) -> None:
    hub.add_to_hub("some/set", {"A.zip": CONTENT, "README.md": b"text"}, "dataset")
    assert fetch("hub:some/set/a*", tmp_path, MD5).read_bytes() == CONTENT
    with pytest.raises(
        FileNotFoundError, match=r"some/set on the .* has not one file b.zip, but A.zip, README.md"
    ):
        fetch("hub:some/set/b.zip", tmp_path)
    with pytest.raises(OSError, match=r"some/other on the Hugging Face hub: .*404") as caught:
        fetch("hub:some/other/a.zip", tmp_path)
    assert "\n" not in str(caught.value)


def test_what_the_hub_does_not_list_is_refused(hub: Server, tmp_path: Path) -> None:
    hub.add_to_hub("some/set", {"a.zip": CONTENT}, "dataset")
    hub.files["/datasets/some/set/resolve/main/a.zip"] = CONTENT[:-1] + b"?"
    with pytest.raises(ValueError, match=r"a.zip: what came is not what the hub lists"):
        fetch("hub:some/set/a.zip", tmp_path)


def test_a_disk_without_room(tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=r"the disk is full, .* MB are free where 1,000,000,000,000 MB are needed"
    ):
        download.check_space(tmp_path, 10**18)
