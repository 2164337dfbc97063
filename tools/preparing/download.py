"""Fetch files: from an address, from the Hugging Face hub, from Google Drive. What broke off is gone on with.

torchvision's and urllib's own functions begin anew after an interruption, which archives of many gigabytes
over a slow line do not survive; so HTTP is done here, the hub by huggingface_hub and Google Drive by gdown.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from datasets.files import DiskFull, disk_full, md5_of, named_disk_errors

DRIVE = "https://drive.google.com/uc?id="
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second of them; doubled before each next one
_BUSY = (408, 429, 500, 502, 503, 504)  # HTTP: perhaps later


class _BrokenOff(Exception):
    """The transfer ended early; another attempt may get further."""


def fetch(source: str, folder: Path, md5: str = "") -> Path:
    """Fetch a file, as `datasets.origin.Download` writes sources; returns where it lies in `folder`.

    A file that is there whole is not fetched again.

    Raises:
        OSError: it cannot be fetched, and why.
        ValueError: its checksum is another; the file is removed.
    """
    kind, _, rest = source.partition(":")
    if kind == "hub":
        owner, name, file = rest.split("/", 2)
        path = fetch_from_hub(f"{owner}/{name}", [file], folder)
    elif kind == "drive":
        path = fetch_from_drive(rest, folder / rest)
    else:
        path = fetch_from_address(source, folder / source.rpartition("/")[2])
    check_md5(path, md5, source)
    return path


def check_md5(path: Path, md5: str, source: str) -> None:
    """Remove the file and raise a ValueError when its checksum is not `md5`; "" is that of every file."""
    found = md5_of(path) if md5 else ""
    if found != md5:
        path.unlink()
        raise ValueError(
            f"{source}: the checksum of what came (md5 {found}) is not the published one ({md5}); it is removed,"
            " try again or take the mirror (--source mirror)"
        )


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_from_address(url: str, path: Path) -> Path:
    """Fetch `url` as `path`; until it is whole, it is `path` with ".part" added, from which a later call goes on."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{path}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _transfer(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code not in _BUSY:
                raise OSError(f"{url}: the server answers {error.code} {error.reason}") from None
            reason = f"the server answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except _BrokenOff as error:
            reason = str(error)
        failures = 0 if _size(part) > before else failures + 1
        if failures == ATTEMPTS:
            kept = (
                f"; {_size(part):,} bytes are kept, the next call goes on from there" if _size(part) else ""
            )
            raise ConnectionError(f"{url}: {reason} ({ATTEMPTS} attempts){kept}")
        tqdm.write(f"{path.name}: {reason}; trying again")
        time.sleep(PAUSE * 2**failures)
    os.replace(part, path)
    _validator_file(part).unlink(missing_ok=True)
    return path


def _transfer(url: str, part: Path) -> None:
    """Bring `part` nearer to the whole file; raises _BrokenOff when it is not whole at the end."""
    start = _size(part)
    headers = {"User-Agent": "mmprompt", "Accept-Encoding": "identity"}
    if start and (validator := _read_validator(part)):
        # If-Range: the rest only if the file is still the one that the part is from, else the whole.
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return
        part.unlink()
        raise _BrokenOff("the part that was there does not fit") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _BrokenOff(_reason(error)) from None
    with response:
        if response.status == 206:
            fits = re.fullmatch(rf"bytes {start}-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not fits:
                part.unlink()
                raise _BrokenOff("the server sent another range than asked for")
            total = int(fits[1])
        else:
            start = 0
            total = int(response.headers.get("Content-Length") or 0)
            _keep_validator(part, response.headers)
        check_space(part.parent, total - start)
        with (
            named_disk_errors(part),
            open(part, "ab" if start else "wb") as file,
            tqdm(
                total=total or None,
                initial=start,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                desc=part.stem,
            ) as bar,
        ):
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    if total and _size(part) != total:
        raise _BrokenOff(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(1 << 20)
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _BrokenOff(_reason(error)) from None


def _reason(error: Exception) -> str:
    return (
        f"no answer for {TIMEOUT:g} s"
        if isinstance(error, TimeoutError)
        else str(error) or type(error).__name__
    )


def _keep_validator(part: Path, headers: http.client.HTTPMessage) -> None:
    """Keep what identifies the file on the server beside the part; without it, the part is not gone on with."""
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")  # W/"..." is no identity
    _validator_file(part).write_text(json.dumps(validator), encoding="utf-8")


def _read_validator(part: Path) -> str:
    try:
        return str(json.loads(_validator_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""


def _validator_file(part: Path) -> Path:
    return Path(f"{part}.json")


def check_space(folder: Path, needed: int) -> None:
    """DiskFull when the disk of `folder` has not `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{folder}: the disk is full, {free / 1e6:,.0f} MB are free where {needed / 1e6:,.0f} MB are needed;"
            " make room and run this again"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def fetch_from_hub(repo: str, patterns: Sequence[str], folder: Path, repo_type: str = "dataset") -> Path:
    """Fetch the one file of a Hugging Face repository whose name matches one of `patterns`, in any case."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.hf_api import RepoFile

    where = f"{repo} on the Hugging Face hub"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        files = [
            f
            for f in HfApi().list_repo_tree(repo, repo_type=repo_type, recursive=True)
            if isinstance(f, RepoFile)
        ]
    except Exception as error:  # requests' errors in older releases, httpx's in newer ones
        raise OSError(f"{where}: {_one_line(error)}") from None
    matching = [f for f in files if any(fnmatchcase(f.path.lower(), p.lower()) for p in patterns)]
    if len(matching) != 1:
        found = ", ".join(sorted(f.path for f in matching or files)) or "nothing"
        raise FileNotFoundError(f"{where} has not one file {' or '.join(patterns)}, but {found}")
    file = matching[0]
    check_space(folder, file.size - _size(folder / file.path))
    try:
        path = Path(hf_hub_download(repo, file.path, repo_type=repo_type, local_dir=folder))
    except Exception as error:
        raise disk_full(error, folder) or OSError(f"{where}, {file.path}: {_one_line(error)}") from None
    sha256 = file.lfs.sha256 if file.lfs else ""
    if _size(path) != file.size or (sha256 and _sha256_of(path) != sha256):
        path.unlink()
        raise ValueError(
            f"{where}, {file.path}: what came is not what the hub lists; it is removed, try again"
        )
    return path


def fetch_from_drive(identity: str, path: Path) -> Path:
    """Fetch a file that is shared on Google Drive."""
    import gdown

    path.parent.mkdir(parents=True, exist_ok=True)
    url = f"{DRIVE}{identity}"
    by_hand = f"fetch it with a browser from {url}"
    try:
        if gdown.download(url, str(path), resume=True, use_cookies=False) is None:  # gdown before 5
            raise OSError("gdown fetched nothing")
    except Exception as error:  # of requests, of gdown, of the disk
        raise disk_full(error, path) or OSError(f"Google Drive: {_one_line(error)}; {by_hand}") from None
    return path


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
