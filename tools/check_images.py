"""Decode every image of a data set, or of a folder, and list those that fail, and the same image in two places.

python tools/check_images.py --root DATA --dataset-config-file configs/datasets/eurosat.yaml
python tools/check_images.py FOLDER

Exit code 0: all images decode; 1: some do not; 2: there is no such data set or folder.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from runs.argument_types import expanded_text
from runs.errors import OneLineParser, clean_errors
from runs.importing import importing


class Item(NamedTuple):
    """An image of a data set, with its part ("train" ...) and its label."""

    path: str
    part: str
    label: int


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)

    with importing():
        from datasets.images_in import images_in  # takes seconds, which a slip need not wait for
        from tools.preparing.examine import examine_all

    data: list[Item] = []
    options: dict[str, Any] = {}
    if args.folder:
        paths = images_in(args.folder)
    else:
        data, options = images_of_data_set(args.root, args.dataset_config_file, args.opts)
        paths = list(dict.fromkeys(item.path for item in data))
    tell_of_copies(data)
    bad = 0
    for path, _, reason in examine_all(paths, args.workers, "checking", **options):
        if reason:
            bad += 1
            tqdm.write(f"{path}: {reason}", file=sys.stdout)
    print(f"{len(paths)} images checked, {bad} cannot be read")
    if bad:
        sys.exit(1)


def tell_of_copies(data: list[Item]) -> None:
    """Name images that are trained and tested on, and those of several classes, under whatever file names."""
    from tools.preparing.examine import same_files

    of = {item.path: item for item in data}
    pairs = [(of[same[0]], of[other]) for same in same_files(of) for other in same[1:]]
    for differ, what in (("part", "both in train and in other parts"), ("label", "in several classes")):
        found = [(a, b) for a, b in pairs if getattr(a, differ) != getattr(b, differ)]
        if differ == "part":
            found = [(a, b) for a, b in found if "train" in (a.part, b.part)]
        if found:
            first = " and ".join(item.path for item in found[0])
            print(f"Warning: {len(found)} images are {what}, first: {first}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        description="Decode every image of a data set, or of a folder, and list those that fail."
    )
    parser.add_argument(
        "folder", nargs="?", help="a folder of images, with its subfolders, instead of a data set"
    )
    parser.add_argument("--root", type=expanded_text, help="the folder that the data sets lie in")
    parser.add_argument("--dataset-config-file", help="the data set, as for train.py")
    parser.add_argument("--opts", nargs="*", default=[], help="its options, as KEY VALUE KEY VALUE ...")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that decode")
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers} must be 1 or more")
    if bool(args.folder) == bool(args.root and args.dataset_config_file):
        parser.error("give either a folder, or both --root and --dataset-config-file")
    if args.opts and args.folder:
        parser.error("--opts are of a data set, a folder has none")
    return args


def images_of_data_set(root: str, config_file: str, settings: list[str]) -> tuple[list[Item], dict[str, Any]]:
    """All images of a data set: training, validation and test, of all classes; and how its runs read images."""
    from dassl.config import get_cfg_default
    from dassl.data.datasets import build_dataset
    from datasets.config import extend_cfg, reading_options
    from runs.settings import merge_file, merge_pairs

    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_file(cfg, config_file)
    merge_pairs(cfg, settings)
    cfg.DATASET.ROOT = root
    cfg.DATASET.NUM_SHOTS = -1
    dataset = build_dataset(cfg)
    parts = {
        "train": dataset.train_x,
        "unlabelled": dataset.train_u,
        "val": dataset.val,
        "test": dataset.test,
    }
    if not getattr(dataset, "few_shot_hash", "-"):  # for testing only: these stand for training images
        del parts["train"]
    items = [Item(datum.impath, part, datum.label) for part, data in parts.items() for datum in data or []]
    return items, reading_options(cfg)


if __name__ == "__main__":
    main()
