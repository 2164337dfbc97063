"""The arguments of train.py, and what can be said of them before anything heavy is imported."""

import argparse
import os
import sys
from collections.abc import Sequence

from runs.errors import OneLineParser
from runs.settings import check_pairs, read_yaml

EXAMPLE = (
    "python train.py --root data --dataset-config-file configs/datasets/shapes.yaml "
    "--config-file configs/trainers/MMTPA/mini.yaml --trainer MMTPA --output-dir output/mmtpa"
)


def make_parser(description: str | None = None) -> argparse.ArgumentParser:
    """The arguments of CoOp's train.py, and `--keys`."""
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, path = parser.add_argument, os.path.expanduser
    add("--root", default="", type=path, help="folder of the data sets")
    add("--output-dir", default="", type=path, help="folder of this run")
    add("--resume", default="", type=path, help="folder of an unfinished run to continue, with its settings")
    add("--seed", type=int, default=-1, help="fixes all random numbers; negative: not fixed")
    add("--source-domains", nargs="+", help="source domains (domain adaptation and generalisation)")
    add("--target-domains", nargs="+", help="target domains (domain adaptation and generalisation)")
    add("--transforms", nargs="+", help="image transforms in training")
    add("--config-file", default="", type=path, help="settings of the method (.yaml)")
    add("--dataset-config-file", default="", type=path, help="settings of the data set (.yaml)")
    add("--trainer", default="", help="the method")
    add("--backbone", default="", help="the CLIP model")
    add("--head", default="", help="the head, for Dassl's trainers that have one")
    add("--eval-only", action="store_true", help="test the model in --model-dir")
    add("--model-dir", default="", type=path, help="output folder of the run to test, or a checkpoint in it")
    add("--load-epoch", type=int, help="test the checkpoint of this epoch")
    add("--ood", default="", type=path, help="test, too, how well images of other classes are told apart")
    add("--no-train", action="store_true", help="build everything, train nothing")
    add("--keys", nargs="?", const="", metavar="METHOD", help="list all settings, and those of a method")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="any settings, e.g. OPTIM.MAX_EPOCH 50")
    return parser


def read_arguments(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, with their files read and their pairs counted, so that a slip is said at once.

    Raises:
        ValueError: there are none, a file is no YAML, or the last words are no KEY VALUE pairs.
        FileNotFoundError: there is no such config file.
    """
    words = sys.argv[1:] if words is None else words
    if not words:
        raise ValueError(f"nothing is asked for; a run is e.g. {EXAMPLE} (see --help)")
    args = parser.parse_args(words)
    check_pairs(args.opts)
    for file in (args.dataset_config_file, args.config_file):
        if file:
            read_yaml(file)
    return args
