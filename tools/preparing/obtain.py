"""Obtain what a data set lacks: from its authors, from the mirror, or from files that are here already."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.files import DiskFull, md5_of
from datasets.origin import Download, compare_sizes
from datasets.split import load_split
from runs.errors import one_line
from tools.preparing.download import fetch, fetch_from_hub
from tools.preparing.place import Place, innermost, only_one, put, set_aside
from tools.preparing.unpack import unpack

# Not a hub data set by its type; one archive per data set, named after its folder or its config.
MIRROR = "zhengli97/prompt_learning_dataset"


def obtain(
    place: Place,
    *,
    source: str | None = None,
    files: Sequence[Path] = (),
    tree: Path | None = None,
    check: bool = True,
    keep: bool = False,
    force: bool = False,
) -> None:
    """Bring the images and the single files that are missing.

    Args:
        place: the data set.
        source: "origin" or "mirror" alone; None tries them in this order.
        files: archives and single files that are here already.
        tree: the data set's folder, or its images', elsewhere; it is linked.
        check: whether `files` must have the published checksums, where these are known.
        keep: whether fetched archives are kept.
        force: whether single files that are others than those published, or than those in `files`, are replaced.

    Raises:
        OSError: something cannot be had, or not be written.
        ValueError: what came is not what was published.
    """
    origin = place.dataset.origin
    assert origin
    given = {path.name: path for path in files if path.name in origin.files}
    others = other_files(place, given, force)
    if others and not force:
        old = place.folder / others[0]
        raise ValueError(
            f"{old} is another file than {given[old.name]}: --force replaces it, and keeps the old one aside"
        )
    if not (place.missing_images() or place.missing_files() or others):
        return
    with only_one(place):
        for file in others:
            new = given[file] if file in given else fetch_one(place, origin.files[file])
            replace_file(place, new, file, check)
        if tree and place.missing_images():
            link(place, tree.expanduser().absolute())
        if files:
            take(place, files, check)
        elif place.missing_images():
            fetch_images(place, source)
        for file in place.missing_files():
            put_file(place, fetch_one(place, origin.files[file]), file)
        if not keep:
            shutil.rmtree(place.downloads, ignore_errors=True)


def fetch_images(place: Place, source: str | None) -> None:
    """Fetch the archives from their origin, or else from the mirror, and extract them."""
    origin = place.dataset.origin
    assert origin
    if not origin.archives and not origin.mirrored:
        raise by_hand(place)
    archives: list[Path] = []
    if origin.archives and source != "mirror":
        try:
            archives = [fetch_one(place, item) for item in origin.archives]
        except (OSError, ValueError) as error:
            if source == "origin" or not origin.mirrored or isinstance(error, DiskFull):
                raise
            print(f"{place.name}: {one_line(error)}", file=sys.stderr)
    if not archives:
        if source == "origin":
            raise FileNotFoundError(
                f"no address of the authors' archive is known: {origin.by_hand or 'take the mirror'}"
            )
        print(f"{place.name}: fetching it from the mirror, {MIRROR} on the Hugging Face hub")
        names = [f"{stem}.*" for stem in dict.fromkeys([place.dataset.dataset_dir, place.name])]
        try:
            archives = [fetch_from_hub(MIRROR, names, place.downloads, repo_type="model")]
        except DiskFull:
            raise
        except (OSError, ValueError) as error:
            or_else = origin.by_hand or "or fetch the archive in another way"
            raise OSError(
                f"{one_line(error)}; try again, {or_else}, and give it with --archive FILE"
            ) from None
    unpack(place, archives)


def fetch_one(place: Place, download: Download) -> Path:
    """Fetch a file; says so where it cannot be told from another one."""
    path = fetch(download.source, place.downloads, download.md5)
    if not download.md5 and not download.source.startswith("hub:"):  # the hub lists checksums of its files
        print(
            f"{place.name}: no checksum of {download.source} is known; what it holds is verified all the same"
        )
    return path


def by_hand(place: Place) -> FileNotFoundError:
    """The error that says what a person must do."""
    assert place.dataset.origin
    how = place.dataset.origin.by_hand.format(images=place.folder / place.dataset.image_dir)
    return FileNotFoundError(f"it must be fetched by hand: {how}; then run this again")


def take(place: Place, paths: Sequence[Path], check: bool) -> None:
    """Use files that are here already: archives, and single files such as the split by their names."""
    origin = place.dataset.origin
    assert origin
    known = [item.md5 for item in origin.archives]
    archives = []
    for path in paths:
        if path.name in origin.files:
            if path.name in place.missing_files():
                put_file(place, path, path.name, check)
        else:
            archives.append(path)
            if check and known and all(known) and (found := md5_of(path)) not in known:
                raise ValueError(
                    f"{path} is not the authors' archive (md5 {found}, not {' or '.join(known)});"
                    " --no-checksum takes it nevertheless"
                )
    if archives and not origin.mirrored:
        raise by_hand(place)
    if archives and place.missing_images():
        unpack(place, archives)


def other_files(place: Place, given: Mapping[str, Path], force: bool) -> list[str]:
    """Single files in place that differ from those given; with `force` also those not known to be the published."""
    origin = place.dataset.origin
    assert origin
    others = []
    for name, download in origin.files.items():
        old = place.folder / name
        if not old.is_file():
            continue
        found = md5_of(old)
        if name in given:
            if md5_of(given[name]) != found:
                others.append(name)
        elif force and download.md5 != found:
            others.append(name)
    return others


def replace_file(place: Place, new: Path, name: str, check: bool = True) -> None:
    """Put a single file where another one is, which is kept under another name."""
    old = place.folder / name
    check_file(place, new, name, check)
    if md5_of(new) != md5_of(old):
        aside = set_aside(old)
        put(new, old)
        print(f"{place.name}: {old} is replaced; the old one is {aside.name}")


def put_file(place: Place, source: Path, name: str, check: bool = True) -> None:
    """Put a single file into place when it is known to be right, as far as that can be known."""
    check_file(place, source, name, check)
    put(source, place.folder / name)


def check_file(place: Place, path: Path, name: str, check: bool = True) -> None:
    """ValueError for a file that cannot be the data set's `name`; one that was fetched for it is removed."""
    origin = place.dataset.origin
    assert origin
    try:
        md5 = origin.files[name].md5
        if check and md5 and md5_of(path) != md5:
            raise ValueError(f"{path} is not the published file (its md5 is not {md5})")
        if name == place.dataset.split_file:
            split = load_split(str(path))
            sizes = (len({item.label for item in split.train or split.test}), *map(len, split))
            if sizes != origin.sizes:
                raise ValueError(
                    f"{path} is not the published split: it has {compare_sizes(sizes, origin.sizes)}"
                )
    except ValueError:
        if place.downloads in path.parents:
            path.unlink()
        raise


def link(place: Place, tree: Path) -> None:
    """Link what the folder `tree` holds into the data set's folder; runs then leave nothing in `tree`."""
    image_dir = place.dataset.image_dir or place.needed[0]
    if tree.is_dir() and tree.name != image_dir and not (tree / image_dir).is_dir():
        deeper = [child for child in tree.iterdir() if (child / image_dir).is_dir()]
        tree = deeper[0] if len(deeper) == 1 else tree
    names = set(os.listdir(tree)) if tree.is_dir() else set()
    if image_dir in names:
        children = {name: tree / name for name in names}
    elif tree.name == image_dir or {"train", "val"} <= names:
        children = {image_dir: tree}
    else:
        raise FileNotFoundError(
            f"{tree} has no folder {image_dir}, but {', '.join(sorted(names)[:10]) or 'nothing'}"
        )
    children |= {name: innermost(children[name], name) for name in place.images if name in children}
    place.folder.mkdir(parents=True, exist_ok=True)
    for name, target in sorted(children.items()):
        # Draws and indices are made by runs, and belong to this data root.
        if not name.startswith((".", "split_fewshot", "index")) and not os.path.lexists(place.folder / name):
            (place.folder / name).symlink_to(target)
    print(f"{place.name}: {place.folder} links to {tree}")
