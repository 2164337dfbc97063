"""Bring data sets into place and prove that they are right.

python tools/prepare.py eurosat dtd --root DATA        fetch, extract, verify; what is ready already costs nothing
python tools/prepare.py all --root DATA                the eleven benchmarks and the four ImageNet variants
python tools/prepare.py eurosat --root DATA --archive EuroSAT.zip       take files that are here already
python tools/prepare.py dtd --root DATA --link /data/dtd                use a folder that is elsewhere
python tools/prepare.py all --root DATA --verify       check what is there, fetch nothing

Exit code 0: all are ready; 1: some are not, the table says why; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.cli import OneLineParser, clean_errors, is_deliberate, one_line

with clean_errors():
    from datasets.base import SplitDataset
    from tools.data_sets import config_name, data_sets
    from tools.download import fetch, fetch_from_hub, md5_of
    from tools.extract import extract
    from tools.verify import Verified, remembered, verify

# Not a hub data set by its type; one archive per data set, named after its folder or its config.
MIRROR = "zhengli97/prompt_learning_dataset"


@dataclass
class Place:
    """A data set and where it is to lie."""

    name: str
    dataset: type[SplitDataset]
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.dataset.dataset_dir

    @property
    def images(self) -> list[str]:
        """The folders of the data set's folder that hold the images, and what else its archives hold."""
        folders = self.dataset.origin.folders if self.dataset.origin else ()
        return list(folders) or [self.dataset.image_dir]

    @property
    def needed(self) -> list[str]:
        """Those that the images are in; the others serve only to make a split of one's own."""
        return [self.dataset.image_dir] if self.dataset.image_dir in self.images else self.images

    def missing_images(self) -> list[str]:
        return [name for name in self.needed if not (self.folder / name).is_dir()]

    def missing_files(self) -> list[str]:
        """Single files that are not there; ImageNet's class names serve its variants, too."""
        folders = (self.folder, self.root / "imagenet")
        files = self.dataset.origin.files if self.dataset.origin else ()
        return [file for file in files if not any((folder / file).is_file() for folder in folders)]


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    rows, errors = [], []
    for name in args.names:
        try:
            rows.append((name, *ready(prepare(Place(name, data_sets()[name], args.root), args))))
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not is_deliberate(error):
                raise
            rows.append((name, "NOT READY", "", "", "", "", ""))
            errors.append(f"error: {name}: {one_line(error)}")
    print_table([("data set", "state", "classes", "train", "val", "test", ""), *rows])
    if errors:
        sys.exit("\n".join(errors))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="data sets, as configs/datasets names them, or all"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder that the data sets lie in")
    parser.add_argument("--verify", action="store_true", help="check everything again, fetch nothing")
    parser.add_argument("--quick", action="store_true", help="do not decode the images")
    parser.add_argument(
        "--source", choices=["origin", "mirror"], help="the authors' archives first, or the mirror"
    )
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="files that are here already")
    parser.add_argument(
        "--no-checksum", action="store_true", help="take an --archive that is not the authors'"
    )
    parser.add_argument("--link", type=Path, help="the data set's folder, or its images', elsewhere")
    parser.add_argument("--keep", action="store_true", help="keep fetched archives")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that decode")
    args = parser.parse_args(argv)
    args.root = args.root.expanduser().absolute()
    every = [name for name, dataset in data_sets().items() if dataset.origin]
    if "all" in args.names:
        if args.names != ["all"]:
            parser.error("all stands alone")
        args.names = every
    args.names = list(dict.fromkeys(config_name(name) for name in args.names))
    if (args.archive or args.link) and len(args.names) > 1:
        parser.error("--archive and --link are for one data set")
    if sum(map(bool, (args.archive, args.link, args.verify))) > 1:
        parser.error("--archive, --link and --verify exclude each other")
    for path in (*args.archive, *([args.link] if args.link else [])):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
    return args


def prepare(place: Place, args: argparse.Namespace) -> Verified:
    """Do all that one data set lacks; OSError or ValueError says what is in the way."""
    if place.dataset.origin is None:
        args.root.mkdir(parents=True, exist_ok=True)
    elif not args.verify:
        known = remembered(place.dataset, str(place.root))
        if known and (known.decoded or args.quick):
            print(f"{place.name}: verified before, nothing to do (--verify checks it again)")
            return known
        complete(place, args)
    try:
        return verify(place.name, place.dataset, str(place.root), not args.quick, args.workers)
    except FileNotFoundError as error:
        if args.verify or place.missing_images():
            raise
        raise FileNotFoundError(
            f"{error}; move {place.folder} away and run this again to begin anew"
        ) from None


def complete(place: Place, args: argparse.Namespace) -> None:
    """Bring the images and the single files that are missing."""
    origin = place.dataset.origin
    assert origin
    if not (place.missing_images() or place.missing_files()):
        return
    with only_one(place):
        if args.link and place.missing_images():
            link(place, args.link.expanduser().absolute())
        if args.archive:
            take(place, args.archive, check=not args.no_checksum)
        elif place.missing_images():
            fetch_images(place, args.source)
        for file in place.missing_files():
            path = fetch(origin.files[file].source, downloads(place), origin.files[file].md5)
            put(path, place.folder / file)
        if not args.keep:
            shutil.rmtree(downloads(place), ignore_errors=True)


def fetch_images(place: Place, source: str | None) -> None:
    """Fetch the archives from their origin, or else from the mirror, and extract them."""
    origin = place.dataset.origin
    assert origin
    if not origin.archives and not origin.mirrored:
        raise by_hand(place)
    archives: list[Path] = []
    if origin.archives and source != "mirror":
        try:
            archives = [fetch(item.source, downloads(place), item.md5) for item in origin.archives]
        except (OSError, ValueError) as error:
            if source == "origin" or not origin.mirrored:
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
            archives = [fetch_from_hub(MIRROR, names, downloads(place), repo_type="model")]
        except (OSError, ValueError) as error:
            or_else = origin.by_hand or "or fetch the archive in another way"
            raise OSError(
                f"{one_line(error)}; try again, {or_else}, and give it with --archive FILE"
            ) from None
    unpack(place, archives)


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
            md5 = origin.files[path.name].md5
            if check and md5 and md5_of(path) != md5:
                raise ValueError(f"{path} is not the published file (its md5 is not {md5})")
            put(path, place.folder / path.name)
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


def unpack(place: Place, archives: Sequence[Path]) -> None:
    """Extract archives beside the data set's folder's content and move what they hold into place when all is there.

    The folders of images are moved last, each at once: a data set that looks complete is.
    """
    origin = place.dataset.origin
    assert origin
    place.folder.mkdir(parents=True, exist_ok=True)
    for rest in place.folder.glob(".extracting-*"):  # of a run that was killed
        shutil.rmtree(rest)
    staging = place.folder / f".extracting-{uuid4().hex}"
    try:
        for number, archive in enumerate(archives):
            extract(archive, staging / str(number))
        for number, inner in enumerate(sorted(staging.rglob(origin.inner)) if origin.inner else []):
            extract(inner, staging / f"inner{number}")
            inner.unlink()
        wanted = [name for name in place.images if not (place.folder / name).is_dir()]
        found = {name: path for name in wanted if (path := find_folder(staging, name))}
        alone = find_classes(staging, origin.sizes[0]) if not found and len(place.images) == 1 else None
        if alone:
            found = {place.images[0]: alone}
        lacking = [name for name in place.missing_images() if name not in found]
        if lacking:
            top = sorted(path.name for folder in staging.iterdir() for path in folder.iterdir())
            raise FileNotFoundError(
                f"{', '.join(map(str, archives))}: no folder {', '.join(lacking)} in it, but {', '.join(top[:10])}"
            )
        beside = {} if alone else {path.parent: None for path in found.values()}
        for parent in beside:
            for child in sorted(parent.iterdir()):
                # Draws that somebody left in an archive would be taken for the user's own.
                if child not in found.values() and child.name != "split_fewshot":
                    move(child, place.folder / child.name)
        for name, path in found.items():
            move(path, place.folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def find_folder(staging: Path, name: str) -> Path | None:
    """The folder of that name that lies least deep, or None."""
    found = (path for path in staging.rglob(name) if path.is_dir())
    return min(found, key=lambda path: (len(path.parts), path), default=None)


def find_classes(staging: Path, classes: int) -> Path | None:
    """The folder with as many folders as there are classes, or None."""
    folders = (Path(path) for path, names, _ in os.walk(staging) if len(names) == classes)
    return min(folders, key=lambda path: (len(path.parts), path), default=None)


def link(place: Place, tree: Path) -> None:
    """Link what the folder `tree` holds into the data set's folder; runs then leave nothing in `tree`."""
    image_dir = place.dataset.image_dir or place.needed[0]
    names = set(os.listdir(tree)) if tree.is_dir() else set()
    if image_dir in names:
        children = {name: tree / name for name in names}
    elif tree.name == image_dir or {"train", "val"} <= names:
        children = {image_dir: tree}
    else:
        raise FileNotFoundError(
            f"{tree} has no folder {image_dir}, but {', '.join(sorted(names)[:10]) or 'nothing'}"
        )
    place.folder.mkdir(parents=True, exist_ok=True)
    for name, target in sorted(children.items()):
        # Draws and indices are made by runs, and belong to this data root.
        if not name.startswith((".", "split_fewshot", "index")) and not os.path.lexists(place.folder / name):
            (place.folder / name).symlink_to(target)
    print(f"{place.name}: {place.folder} links to {tree}")


def move(source: Path, target: Path) -> None:
    """Rename, unless something is there: nothing of the user's is replaced. Within one disk, all at once."""
    if not os.path.lexists(target):
        shutil.move(source, target)


def put(source: Path, target: Path) -> None:
    """Copy a file; under its name it is whole from the first moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        shutil.copyfile(source, copy)
        os.replace(copy, target)
    finally:
        copy.unlink(missing_ok=True)


def downloads(place: Place) -> Path:
    return place.root / ".downloads" / place.name


@contextmanager
def only_one(place: Place) -> Iterator[None]:
    """ValueError while another process prepares the same data set."""
    folder = place.root / ".downloads"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{place.name}.lock"
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError("another process prepares it at this moment") from None
        yield


def ready(verified: Verified) -> tuple[str, ...]:
    notes = [f"{verified.images:,} images {'decoded' if verified.decoded else 'there, not decoded'}"]
    notes += [f"{count:,} {kind} (read as RGB)" for kind, count in sorted(verified.converted.items())]
    return "ready", *(f"{size:,}" if size else "-" for size in verified.sizes), ", ".join(notes)


def print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        first, state, *numbers, note = row
        cells = [f"{first:<{widths[0]}}", f"{state:<{widths[1]}}"]
        cells += [f"{number:>{width}}" for number, width in zip(numbers, widths[2:-1])]
        print("  ".join([*cells, note]).rstrip())


if __name__ == "__main__":
    main()
