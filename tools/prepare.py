"""Bring data sets into place and prove that they are right.

python tools/prepare.py eurosat dtd --root DATA        fetch, extract, verify; what is ready already costs nothing
python tools/prepare.py all --root DATA                the eleven benchmarks and the four ImageNet variants
python tools/prepare.py eurosat --root DATA --archive EuroSAT.zip       take files that are here already
python tools/prepare.py dtd --root DATA --link /data/dtd                use a folder that is elsewhere
python tools/prepare.py eurosat --root DATA --force    fetch the split file anew, if the one there is another
python tools/prepare.py all --root DATA --verify       check what is there, fetch nothing

Exit code 0: all are ready; 1: some are not, the table says why; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs.argument_types import expanded
from runs.errors import OneLineParser, clean_errors, is_deliberate, one_line
from runs.importing import importing


def make_parser() -> OneLineParser:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="data sets, as configs/datasets names them, or all"
    )
    parser.add_argument("--root", type=expanded, required=True, help="the folder that the data sets lie in")
    parser.add_argument("--verify", action="store_true", help="check everything again, fetch nothing")
    parser.add_argument("--quick", action="store_true", help="do not decode the images")
    parser.add_argument(
        "--source", choices=["origin", "mirror"], help="the authors' archives first, or the mirror"
    )
    parser.add_argument("--archive", type=expanded, nargs="+", default=[], help="files that are here already")
    parser.add_argument(
        "--no-checksum", action="store_true", help="take an --archive that is not the authors'"
    )
    parser.add_argument("--link", type=expanded, help="the data set's folder, or its images', elsewhere")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace a wrong split file; the old one is kept under another name",
    )
    parser.add_argument("--keep", action="store_true", help="keep fetched archives")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that decode")
    return parser


with importing():
    if __name__ == "__main__":  # a slip is said before the imports, which take seconds
        make_parser().parse_args()

    from tools.preparing.data_sets import config_name, data_sets
    from tools.preparing.obtain import obtain
    from tools.preparing.place import Place
    from tools.preparing.verify import Verified, remembered, verify


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
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers} must be 1 or more")
    args.root = args.root.absolute()
    every = [name for name, dataset in data_sets().items() if dataset.origin]
    if "all" in args.names:
        if args.names != ["all"]:
            parser.error("all stands alone")
        args.names = every
    args.names = list(dict.fromkeys(config_name(name) for name in args.names))
    if (args.archive or args.link) and len(args.names) > 1:
        parser.error("--archive and --link are for one data set")
    if args.verify and args.force:
        parser.error("--verify changes nothing, --force does")
    if sum(map(bool, (args.archive, args.link, args.verify))) > 1:
        parser.error("--archive, --link and --verify exclude each other")
    for path in (*args.archive, *([args.link] if args.link else [])):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
    for path in args.archive:
        if path.is_dir():
            parser.error(f"--archive {path} is a folder; --link takes folders")
    return args


def prepare(place: Place, args: argparse.Namespace) -> Verified:
    """Do all that one data set lacks; OSError or ValueError says what is in the way."""
    if place.dataset.origin is None:
        args.root.mkdir(parents=True, exist_ok=True)
    elif not args.verify:
        single = any(path.name in place.dataset.origin.files for path in args.archive)
        known = None if args.force or single else remembered(place.dataset, str(place.root))
        if known and (known.decoded or args.quick):
            print(f"{place.name}: verified before, nothing to do (--verify checks it again)")
            return known
        obtain(
            place,
            source=args.source,
            files=args.archive,
            tree=args.link,
            check=not args.no_checksum,
            keep=args.keep,
            force=args.force,
        )
    try:
        return verify(place.name, place.dataset, str(place.root), not args.quick, args.workers)
    except FileNotFoundError as error:
        if args.verify or place.missing_images():
            raise
        raise FileNotFoundError(
            f"{error}; move {place.folder} away and run this again to begin anew"
        ) from None


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
