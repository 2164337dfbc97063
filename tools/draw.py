"""Print, export and compare few-shot draws: which images a run trains and validates on.

python tools/draw.py print eurosat --root DATA --shots 1 16 --seed 1 2 3      numbers, hash and origin of each draw
python tools/draw.py print eurosat --root DATA --shots 1 --seed 1 --images    and its images
python tools/draw.py export eurosat --root DATA --shots 16 --seed 1 2 3 --output draws     as CoOp's JSON files
python tools/draw.py compare eurosat --root DATA --shots 16 --seed 1 2 3 --with draws      with those of a folder
python tools/draw.py compare eurosat --root DATA --shots 1 16 --seed 1 2      with each other: images in common

A data set's name (own images with the --opts of their runs), or a split file (then no images are needed). The hash is
the one in a run's result.json. A draw that lies in the data set's split_fewshot folder is taken, as a run does; nothing
is written but by `export`.

Exit code of `compare --with`: 0 when all draws are the same, 1 when some are not.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs.argument_types import expanded_text
from runs.errors import OneLineParser, clean_errors
from runs.importing import importing


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["print", "export", "compare"])
    parser.add_argument(
        "source", type=expanded_text, help="a data set, as configs/datasets names it, or a split file (.json)"
    )
    parser.add_argument("--root", type=expanded_text, help="the folder that the data sets lie in")
    parser.add_argument("--shots", type=int, nargs="+", required=True, help="training images per class")
    parser.add_argument("--seed", type=int, nargs="+", required=True)
    parser.add_argument("--images", action="store_true", help="print: the images, too")
    parser.add_argument("--output", type=expanded_text, help="export: the folder for the files")
    parser.add_argument("--with", type=expanded_text, dest="other", help="compare: a folder of draws")
    parser.add_argument(
        "--opts", nargs="*", default=[], help="the data set's options, as KEY VALUE KEY VALUE ..."
    )
    args = parser.parse_args(argv)
    if min(args.shots) < 1:
        parser.error("--shots must be 1 or more; below that all images are used and nothing is drawn")
    if not args.root and not args.source.endswith(".json"):
        parser.error("--root is needed to find the data set")
    if args.opts and args.source.endswith(".json"):
        parser.error("--opts are of a data set, a split file has none")
    if bool(args.output) != (args.action == "export"):
        parser.error("export needs --output, and nothing else takes it")
    return args


with importing():
    if __name__ == "__main__":  # a slip is said before the imports, which take seconds
        parse(None)

    from datasets.fewshot import draw_hash, find_draw
    from datasets.split import Split, load_split, save_split
    from tools.preparing.data_sets import load, split_of

Draws = dict[
    tuple[int, int], tuple[Split, str]
]  # by shots and seed: the draw and its file, "" where there is none


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    split, folder = read_split(args.source, args.root, args.opts)
    draws: Draws = {
        (shots, seed): find_draw(split, shots, seed, folder) for shots in args.shots for seed in args.seed
    }
    if args.action == "print":
        print_draws(draws, args.images)
    elif args.action == "export":
        for (shots, seed), (draw, _) in draws.items():
            path = os.path.join(args.output, file_name(shots, seed))
            save_split(draw, path)
            print(f"{path}  {draw_hash(draw)}")
    elif args.other:
        if not compare_with(draws, split, args.other):
            sys.exit(1)
    else:
        compare(draws)


def read_split(source: str, root: str, opts: list[str]) -> tuple[Split, str]:
    """The whole split, and the folder of its draws."""
    if source.endswith(".json"):
        if not os.path.isfile(source):
            raise FileNotFoundError(f"there is no split file {source}")
        return load_split(source), os.path.join(os.path.dirname(source), "split_fewshot")
    data = load(source, root, *opts)
    split = split_of(data)
    if not split.train:
        raise ValueError(f"{source} is for testing only, nothing is drawn from it")
    return split, data.draw_folder


def file_name(shots: int, seed: int) -> str:
    return f"shot_{shots}-seed_{seed}.json"


def print_draws(draws: Draws, images: bool) -> None:
    print(f"{'shots':>5}  {'seed':>4}  {'train':>6}  {'val':>6}  {'hash':<64}  file")
    for (shots, seed), (draw, source) in draws.items():
        numbers = f"{shots:>5}  {seed:>4}  {len(draw.train):>6,}  {len(draw.val):>6,}"
        print(f"{numbers}  {draw_hash(draw)}  {source or '-'}")
        for part in ("train", "val") if images else ():
            for item in getattr(draw, part):
                print(f"  {part:<5}  {item.label:>4}  {item.path}  ({item.classname})")


def compare_with(draws: Draws, split: Split, folder: str) -> bool:
    """Compare each draw with the one of the same name in `folder`; True when all are the same."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder}")
    same = []
    for (shots, seed), (draw, _) in draws.items():
        other, source = find_draw(split, shots, seed, folder)
        if not source:
            raise FileNotFoundError(f"{folder} has no draw {file_name(shots, seed)}, nor with .pkl")
        same.append(draw_hash(draw) == draw_hash(other))
        differences = "the same"
        if not same[-1]:
            counts = (
                f"{in_common(draw, other, part)} of {len(getattr(draw, part))} {part}"
                for part in ("train", "val")
            )
            differences = f"different: {' and '.join(counts)} images in common"
        print(f"{shots:>2} shots, seed {seed}: {differences} ({source})")
    return all(same)


def compare(draws: Draws) -> None:
    """Print, for every two draws, how many training images they have in common."""
    names = [f"{shots}/{seed}" for shots, seed in draws]
    width = max(6, *map(len, names))
    print("training images in common, by shots/seed")
    print("  ".join(f"{name:>{width}}" for name in ["", *names]))
    for name, (draw, _) in zip(names, draws.values()):
        row = (in_common(draw, other, "train") for other, _ in draws.values())
        print("  ".join([f"{name:>{width}}", *(f"{count:>{width},}" for count in row)]))


def in_common(one: Split, other: Split, part: str) -> int:
    return len({item.path for item in getattr(one, part)} & {item.path for item in getattr(other, part)})


if __name__ == "__main__":
    main()
