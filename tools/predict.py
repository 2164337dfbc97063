"""Classify images with what a run has trained.

    python tools/predict.py output/shapes/MMTPA photo.jpg folder_of_photos
    find . -name '*.png' | python tools/predict.py output/shapes/MMTPA - --csv classes.csv

RUN is the output folder of a finished run. Settings, backbone, method and class names come from its record, what was
learned from its checkpoint; nothing is typed again, and the data set is not needed. Of a folder all images are taken,
with those of its subfolders; `-` reads paths from standard input, one a line.

Exit code 0: all images are classified; 1: some cannot be read, they are named; 2: RUN or an argument is wrong.
"""

import argparse
import csv
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs.argument_types import at_least, expanded_text
from runs.class_list import class_names
from runs.errors import OneLineParser, clean_errors, one_line
from runs.importing import importing

Row = tuple[str, list[str], list[float]]  #: an image's path, its classes and their probabilities, best first


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    paths = expand(args.images)
    check_files(args)

    with importing():
        import torch
        from PIL import Image
        from tqdm import tqdm

        from runs.trained import load_run

    # Large images are read, and too large ones named.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    run = load_run(args.run, args.classes, args.device, backbone=args.backbone)
    size = args.batch_size or run.batch_size
    unreadable = 0
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(paths), desc="classifying", unit="image", disable=None))
        write = writer(args, stack, paths, run.classnames)
        for batch, failed in batches(paths, run.prepare, size):
            for path, reason in failed:
                tqdm.write(reason if path in reason else f"{path}: {reason}", file=sys.stderr)
            unreadable += len(failed)
            if batch:
                best = run.predict(torch.stack([image for _, image in batch]), args.top, size)
                for (path, _), (labels, probabilities) in zip(batch, best):
                    write((path, labels, probabilities))
            bar.update(len(batch) + len(failed))
    written = [file for file in (args.csv, args.jsonl) if file]
    if written:
        print(f"{len(paths) - unreadable} images classified: {', '.join(written)}")
    if unreadable:
        print(f"{unreadable} of {len(paths)} images cannot be read", file=sys.stderr)
        sys.exit(1)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", metavar="RUN", help="output folder of a finished run")
    add("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="images and folders of them; - reads paths")
    add(
        "--top", type=at_least(1), default=5, metavar="K", help="how many classes, the most probable ones (5)"
    )
    add("--csv", type=expanded_text, metavar="FILE", help="write a table there, not to the terminal")
    add(
        "--jsonl",
        type=expanded_text,
        metavar="FILE",
        help="write a JSON object a line there",
    )
    add("--classes", type=class_names, help="other classes: a file with a name a line, or NAME,NAME,...")
    add(
        "--batch-size", type=at_least(1), default=0, help="images scored at once (as in the run's evaluation)"
    )
    add("--backbone", help="where the backbone's weights are, if they are not where the run had them")
    add("--device", choices=["cpu", "cuda"], help="a GPU where there is one")
    add("--force", action="store_true", help="replace files that exist")
    return parser.parse_args(argv)


def expand(words: Sequence[str]) -> list[str]:
    """The paths that are meant; of a folder all files whose names end as those of images do.

    Raises:
        ValueError: there are none.
    """
    from datasets.images_in import images_in

    paths: list[str] = []
    for word in words:
        if word == "-":
            paths += [line.rstrip("\n") for line in sys.stdin if line.strip()]
        elif os.path.isdir(word):
            paths += images_in(word)
        else:
            paths.append(word)
    if not paths:
        raise ValueError("standard input names no images")
    return paths


def check_files(args: argparse.Namespace) -> None:
    """OSError where an output file exists, unless --force, or its folder does not."""
    for file in filter(None, (args.csv, args.jsonl)):
        path = Path(file)
        if path.is_dir() or not path.parent.is_dir():
            raise FileNotFoundError(f"{file} cannot be written: a file in a folder that exists is needed")
        if path.exists() and not args.force:
            raise FileExistsError(f"{file} exists already: --force replaces it")


def batches(
    paths: Sequence[str], prepare: Callable[[str], Any], size: int
) -> Iterator[tuple[list[tuple[str, Any]], list[tuple[str, str]]]]:
    """The images of each so many paths that can be read, with their paths; and those that cannot, with the reason."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes outside of Python's lock

        def tried(path: str) -> tuple[str, Any, str]:
            try:
                return path, prepare(path), ""
            except (ValueError, OSError, MemoryError) as error:
                return path, None, one_line(error)

        for start in range(0, len(paths), size):
            results = list(pool.map(tried, paths[start : start + size]))
            yield (
                [(path, image) for path, image, _ in results if image is not None],
                [(path, reason) for path, image, reason in results if image is None],
            )


def writer(
    args: argparse.Namespace, stack: ExitStack, paths: Sequence[str], names: Sequence[str]
) -> Callable[[Row], None]:
    """Takes a row to where it was asked for: files, which appear when `stack` ends, or else the terminal."""
    from tqdm import tqdm

    from foundation.atomic import atomic_write

    writers: list[Callable[[Row], Any]] = []
    count = min(args.top, len(names))
    if args.csv:
        table = csv.writer(stack.enter_context(atomic_write(args.csv)), lineterminator="\n")
        columns = [(f"class_{i}", f"probability_{i}") for i in range(1, count + 1)]
        table.writerow(["image", *(column for pair in columns for column in pair)])
        writers.append(
            lambda row: table.writerow([row[0], *(cell for pair in zip(row[1], row[2]) for cell in pair)])
        )
    if args.jsonl:
        lines = stack.enter_context(atomic_write(args.jsonl))
        writers.append(
            lambda row: lines.write(
                json.dumps({"image": row[0], "classes": row[1], "probabilities": row[2]}, ensure_ascii=False)
                + "\n"
            )
        )
    if not writers:
        widths = max(map(len, paths)), max(map(len, names))
        writers.append(lambda row: tqdm.write(as_line(row, *widths), file=sys.stdout))

    def write(row: Row) -> None:
        for one in writers:
            one(row)

    return write


def as_line(row: Row, path_width: int, name_width: int) -> str:
    """An image's line of the table in the terminal."""
    path, labels, probabilities = row
    cells = [f"{100 * share:5.1f}% {label:{name_width}}" for label, share in zip(labels, probabilities)]
    return f"{path:{path_width}}  {'  '.join(cells)}".rstrip()


if __name__ == "__main__":
    main()
