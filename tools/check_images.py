"""Decode every image of a data set, or of a folder, and list those that fail.

python tools/check_images.py --root DATA --dataset-config-file configs/datasets/eurosat.yaml
python tools/check_images.py FOLDER

Exit code 0: all images decode; 1: some do not; 2: there is no such data set or folder.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image
from tqdm import tqdm

from runs.errors import OneLineParser, clean_errors
from tools.preparing.examine import examine_all


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.folder:
        paths = images_in(args.folder)
    else:
        paths = images_of_data_set(args.root, args.dataset_config_file)
    bad = 0
    for path, _, reason in examine_all(paths, args.workers, "checking"):
        if reason:
            bad += 1
            tqdm.write(f"{path}: {reason}", file=sys.stdout)
    print(f"{len(paths)} images checked, {bad} cannot be read")
    if bad:
        sys.exit(1)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        description="Decode every image of a data set, or of a folder, and list those that fail."
    )
    parser.add_argument(
        "folder", nargs="?", help="a folder of images, with its subfolders, instead of a data set"
    )
    parser.add_argument("--root", help="the folder that the data sets lie in")
    parser.add_argument("--dataset-config-file", help="the data set, as for train.py")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that decode")
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers} must be 1 or more")
    if bool(args.folder) == bool(args.root and args.dataset_config_file):
        parser.error("give either a folder, or both --root and --dataset-config-file")
    return args


def images_of_data_set(root: str, config_file: str) -> list[str]:
    """The paths of all images of a data set: training, validation and test, of all classes."""
    from dassl.config import get_cfg_default
    from dassl.data.datasets import build_dataset
    from datasets.config import extend_cfg
    from runs.settings import merge_file

    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_file(cfg, config_file)
    cfg.DATASET.ROOT = root
    cfg.DATASET.NUM_SHOTS = -1
    dataset = build_dataset(cfg)
    parts = (dataset.train_x, dataset.train_u, dataset.val, dataset.test)
    return list(dict.fromkeys(item.impath for part in parts for item in part or []))


def images_in(folder: str) -> list[str]:
    """The paths of all files below ``folder`` whose names end as those of images do."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder}")
    endings = tuple(Image.registered_extensions())
    paths = [str(path) for path in sorted(Path(folder).rglob("*")) if path.name.lower().endswith(endings)]
    if not paths:
        raise ValueError(f"there are no images in {folder}")
    return paths


if __name__ == "__main__":
    main()
