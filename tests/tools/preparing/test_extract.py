import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tools.preparing.extract
from datasets.files import DiskFull
from tools.preparing.extract import extract

FILES = {"set/images/a.jpg": b"a" * 5000, "set/images/b/c.jpg": b"c", "set/list.txt": b"a.jpg"}


def make_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)


def make_tar(
    path: Path, *members: tarfile.TarInfo, files: dict[str, bytes] | None = None, mode: str = "w"
) -> None:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in (files or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        for member in members:
            file.addfile(member)


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


def found(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_archives_of_all_kinds(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "archive"  # the content tells the kind, not the name
    if mode == "zip":
        make_zip(archive, FILES)
    else:
        make_tar(archive, member("set/empty", tarfile.DIRTYPE), files=FILES, mode=mode)
    extract(archive, tmp_path / "out" / "folder")
    assert found(tmp_path / "out" / "folder") == FILES


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    litter = {"__MACOSX/set/images/._a.jpg": b"x", "set/._list.txt": b"x", "set/.DS_Store": b"x"}
    make_zip(tmp_path / "a.zip", FILES | litter)
    make_tar(tmp_path / "a.tar", files=FILES | litter)
    for name in ("a.zip", "a.tar"):
        extract(tmp_path / name, tmp_path / name[2:])
        assert found(tmp_path / name[2:]) == FILES


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.preparing.extract, "ALLOWANCE", 1_000_000)


def refused(tmp_path: Path, archive: Path, message: str) -> None:
    """The archive is refused, and nothing but itself is in its folder or above afterwards."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message) as caught:
        extract(archive, tmp_path / "deep" / "folder")
    (tmp_path / "deep").rmdir()
    assert sorted(tmp_path.rglob("*")) == before
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)


PATHS = ["../out.txt", "set/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:\\out.txt", "..", "set/.."]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("make", [make_zip, lambda path, files: make_tar(path, files=files)])
def test_paths_that_lead_out(tmp_path: Path, name: str, make: Callable[..., Any]) -> None:
    make(tmp_path / "a", FILES | {name: b"out"})
    refused(tmp_path, tmp_path / "a", "a path out of its folder; nothing is extracted")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../out", "..", "images/../../../out"])
def test_links_that_lead_out(tmp_path: Path, kind: bytes, target: str) -> None:
    make_tar(tmp_path / "a", member("set", kind, target), files={"x/y": b""})
    refused(tmp_path, tmp_path / "a", "a link to '.*' out of its folder; nothing is extracted")


def test_a_file_through_a_link(tmp_path: Path) -> None:
    make_tar(tmp_path / "a", member("set/link", tarfile.SYMTYPE, "images"), files={})
    with tarfile.open(tmp_path / "a", "a") as file:
        info = tarfile.TarInfo("set/link/x.jpg")
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    extract(tmp_path / "a", tmp_path / "folder")
    assert found(tmp_path / "folder") == {"set/link/x.jpg": b"x"}  # an ordinary folder: no link was made


def test_links_in_a_zip(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def make(target: str) -> None:
        make_zip(tmp_path / "a.zip", FILES)
        link = zipfile.ZipInfo("set/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "a") as file:
            file.writestr(link, target)

    make("../../out")
    refused(tmp_path, tmp_path / "a.zip", "a link to '../../out' out of its folder")
    make("images/a.jpg")
    extract(tmp_path / "a.zip", tmp_path / "folder")
    assert found(tmp_path / "folder") == FILES
    assert capsys.readouterr().out == "Warning: a.zip: 1 links are left out, first: set/link\n"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(tmp_path: Path, kind: bytes) -> None:
    make_tar(tmp_path / "a", member("set/device", kind), files=FILES)
    refused(tmp_path, tmp_path / "a", "'set/device', which is not a file")


def test_a_device_in_a_zip(tmp_path: Path) -> None:
    device = zipfile.ZipInfo("device")
    device.external_attr = (stat.S_IFCHR | 0o666) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as file:
        file.writestr(device, "")
    refused(tmp_path, tmp_path / "a", "'device', which is not a file")


@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
@pytest.mark.usefixtures("low_limit")
def test_a_tar_bomb(tmp_path: Path, opener: Callable[..., Any]) -> None:
    with opener(tmp_path / "a", "wb") as packed:
        info = tarfile.TarInfo("big")
        info.size = 5 << 20
        packed.write(info.tobuf())
        for _ in range(3):
            packed.write(bytes(1 << 20))
    refused(tmp_path, tmp_path / "a", r"more than 1 MB, 20 times its size; nothing is extracted")


@pytest.mark.usefixtures("low_limit")
def test_a_bomb_in_a_header(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 5 << 20
    with gzip.open(tmp_path / "a", "wb") as packed:
        packed.write(info.tobuf())
        for _ in range(3):
            packed.write(bytes(1 << 20))
    refused(tmp_path, tmp_path / "a", "more than 1 MB")


@pytest.mark.usefixtures("low_limit")
def test_many_files_are_a_bomb_together(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", {f"{i}": bytes(400_000) for i in range(5)})
    refused(tmp_path, tmp_path / "a", "more than 1 MB")


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", {"x": bytes(1 << 20)})
    content = bytearray((tmp_path / "a").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path, tmp_path / "a", "is damaged")


@pytest.mark.parametrize(
    "kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2", "text", "empty", "flipped zip"]
)
def test_damaged_archives(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "a"
    if kind in ("text", "empty"):
        archive.write_bytes(b"<html>quota exceeded</html>" if kind == "text" else b"")
    elif kind == "flipped zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a", b"abcdefgh" * 100)
        archive.write_bytes(archive.read_bytes().replace(b"abcdefgh", b"abcXefgh", 1))
    else:
        if kind == "zip":
            make_zip(archive, FILES)
        else:
            make_tar(archive, files=FILES, mode=kind.replace("tar", "w").replace(".", ":"))
        whole = archive.read_bytes()
        archive.write_bytes(whole[: len(whole) // 4 if kind == "tar" else len(whole) // 2])
    refused(tmp_path, archive, "is damaged")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", {"x": b"text"})
    content = bytearray((tmp_path / "a").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 8] |= 1
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path, tmp_path / "a", "is encrypted")


def test_what_is_there_stays_when_the_folder_exists(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", FILES)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(FileExistsError):
        extract(tmp_path / "a", tmp_path / "folder")
    assert found(tmp_path / "folder") == {"mine": b""}


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_disk_that_fills_is_no_damage(tmp_path: Path, small_disk: Any, mode: str, size: int) -> None:
    folder, _ = small_disk
    files = {f"{i}.bin": os.urandom(size) for i in range(4_000_000 // size)}
    if mode == "zip":
        make_zip(tmp_path / "a", files)
    else:
        make_tar(tmp_path / "a", files=files, mode=mode)
    with pytest.raises(DiskFull, match=f"^{folder}/out: the disk is full, .* MB are free"):
        extract(tmp_path / "a", folder / "out")
    assert list(folder.iterdir()) == []


def test_a_zip_with_the_separators_of_windows(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", {name.replace("/", "\\"): content for name, content in FILES.items()})
    extract(tmp_path / "a", tmp_path / "folder")
    assert found(tmp_path / "folder") == FILES
