"""Where a data set comes from: what a data set's file declares and tools/prepare.py follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        source: an address "https://...", "hub:<owner>/<name>/<file>" (a data set repository on the Hugging Face
            hub; the file's name may have ``*`` in it) or "drive:<id>" (Google Drive).
        md5: the file's checksum; "" where none is known.
    """

    source: str
    md5: str = ""


@dataclass(frozen=True)
class Origin:
    """What there is to fetch, and what it must amount to.

    Attributes:
        sizes: numbers of classes and of training, validation and test images.
        archives: the authors' archives; none where they cannot be fetched without a person.
        files: single files of the data set's folder by name, such as the published split.
        folders: the folders that the archives hold, where it is not the image folder alone.
        inner: the name of an archive in the archive.
        mirrored: whether the mirror has the data set.
        by_hand: how a person gets what cannot be fetched.
    """

    sizes: tuple[int, int, int, int]
    archives: Sequence[Download] = ()
    files: Mapping[str, Download] = field(default_factory=dict)
    folders: Sequence[str] = ()
    inner: str = ""
    mirrored: bool = True
    by_hand: str = ""


def compare_sizes(found: Iterable[int], published: Iterable[int]) -> str:
    """Both numbers of classes and of training, validation and test images, in words."""
    ours, theirs = (" / ".join(f"{size:,}" for size in sizes) for sizes in (found, published))
    return f"{ours} classes, training, validation and test images where {theirs} were published"


# CLIP's names of the ImageNet classes, as CoOp's authors keep them; no checksum is published.
CLASSNAMES = {"classnames.txt": Download("drive:1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF")}
