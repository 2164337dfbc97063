"""Extract an archive from a stranger: what is in it stays in its folder and within bounds, or nothing is kept."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

from tqdm import tqdm

from datasets.files import DiskFull, is_litter, named_disk_errors
from tools.preparing.download import check_space

# Archives of photographs hardly shrink; what grows more than this is no data set.
MAX_RATIO = 20
ALLOWANCE = 100 << 20  # bytes that even a tiny archive may hold
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip or tar archive (also .gz, .bz2, .xz) into the new folder `folder`.

    Links that stay inside are left out, with a warning, and so are hidden files and those that macOS adds.

    Raises:
        ValueError: the archive is damaged or none; it grows beyond all reason; or it holds a path or a link
            that leads out of the folder, or a device. Then there is no `folder`.
        DiskFull: it is. Then there is no `folder` either.
        OSError: the disk cannot be written.
    """
    limit = MAX_RATIO * archive.stat().st_size + ALLOWANCE
    with named_disk_errors(folder):
        folder.mkdir(parents=True)
    try:
        with named_disk_errors(folder):
            if zipfile.is_zipfile(archive):
                links = _extract_zip(archive, folder, limit)
            else:
                links = _extract_tar(archive, folder, limit)
    except _DAMAGED as error:
        shutil.rmtree(folder)
        raise ValueError(f"{archive} is damaged or not a zip or tar archive: {error}") from None
    except BaseException as error:
        shutil.rmtree(folder)
        if (
            isinstance(error, OSError) and error.errno is None and not isinstance(error, DiskFull)
        ):  # bz2 says it so
            raise ValueError(f"{archive} is damaged: {error}") from None
        raise
    if links:
        tqdm.write(f"Warning: {archive.name}: {len(links)} links are left out, first: {links[0]}")


def _extract_zip(archive: Path, folder: Path, limit: int) -> list[str]:
    links = []
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            if "/" not in member.filename:  # some programs on Windows separate by backslashes
                member.filename = member.filename.replace("\\", "/")
        total = sum(member.file_size for member in members)  # zipfile reads no more than this of a member
        if total > limit:
            raise _too_large(archive, limit)
        check_space(folder, total)
        for member in members:
            mode = member.external_attr >> 16
            if member.flag_bits & 1:
                raise ValueError(f"{archive} is encrypted")
            target = file.read(member).decode(errors="replace") if stat.S_ISLNK(mode) else ""
            _check_member(archive, member.filename, target)
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise ValueError(f"{archive} holds {member.filename!r}, which is not a file")
        for member in tqdm(members, desc=f"extracting {archive.name}", unit="file", mininterval=0.5):
            if stat.S_ISLNK(member.external_attr >> 16):
                links.append(member.filename)
            elif not member.is_dir() and not _is_litter(member.filename):
                with file.open(member) as packed:
                    _write(packed, folder / member.filename)
    return links


def _extract_tar(archive: Path, folder: Path, limit: int) -> list[str]:
    links = []
    with (
        open(archive, "rb") as packed,
        _unpacked(packed) as plain,
        tarfile.open(fileobj=cast(IO[bytes], _Limited(archive, plain, limit)), mode="r|") as file,
        tqdm(
            total=archive.stat().st_size, unit="B", unit_scale=True, desc=f"extracting {archive.name}"
        ) as bar,
    ):
        declared = 0
        for member in file:
            bar.update(packed.tell() - bar.n)
            _check_member(
                archive, member.name, "" if not (member.issym() or member.islnk()) else member.linkname
            )
            declared += member.size  # of a sparse file: more than is read
            if declared > limit:
                raise _too_large(archive, limit)
            if member.issym() or member.islnk():
                links.append(member.name)
            elif not (member.isfile() or member.isdir()):
                raise ValueError(f"{archive} holds {member.name!r}, which is not a file")
            elif member.isfile() and not _is_litter(member.name):
                # not extract(): its filters are missing in Python 3.11.3 and older, Debian 12's own among them
                source = file.extractfile(member)
                assert source is not None
                _write(source, folder / member.name)
        bar.update(packed.tell() - bar.n)
    return links


def _write(source: IO[bytes], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _unpacked(packed: IO[bytes]) -> IO[bytes]:
    start = packed.read(6)
    packed.seek(0)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return opener(packed)  # type: ignore[operator]
    return packed


class _Limited:
    """A file of which only so many bytes can be read, so that no header is unpacked without end either."""

    def __init__(self, archive: Path, file: IO[bytes], limit: int):
        self.archive, self.file, self.limit, self.left = archive, file, limit, limit

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise _too_large(self.archive, self.limit)
        return data


def _check_member(archive: Path, name: str, link: str) -> None:
    """ValueError for a path, or the target of a link, that is absolute or leads out of the folder."""
    steps = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in steps or "\0" in name or steps[0].endswith(":"):
        raise ValueError(f"{archive} holds {name!r}, a path out of its folder; nothing is extracted")
    if link:
        # A hard link's target counts from the archive's root, a symbolic one's from where it lies; take the worse.
        target = link.replace("\\", "/")
        inside = os.path.normpath(os.path.join(os.path.dirname(name), target))
        if target.startswith("/") or inside.split(os.sep)[0] == "..":
            raise ValueError(
                f"{archive} holds {name!r}, a link to {link!r} out of its folder; nothing is extracted"
            )


def _is_litter(name: str) -> bool:
    return any(is_litter(step) for step in name.split("/") if step not in ("", "."))


def _too_large(archive: Path, limit: int) -> ValueError:
    return ValueError(
        f"{archive} holds more than {limit / 1e6:,.0f} MB, {MAX_RATIO} times its size; nothing is extracted"
    )
