"""Train the bundled model, clip/mini, anew (what its training is: datasets/toy/training.py).

python tools/train_mini.py            # about 15 minutes
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs import ROOT
from runs.argument_types import at_least, expanded
from runs.errors import OneLineParser, clean_errors


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=expanded, default=ROOT / "clip" / "mini" / "mini.safetensors")
    parser.add_argument("--config", type=expanded, default=ROOT / "clip" / "mini" / "mini.json")
    parser.add_argument("--seed", type=at_least(0), default=1)
    parser.add_argument("--images", type=at_least(1), default=100_000)
    parser.add_argument("--image-steps", type=at_least(1), default=2500)
    parser.add_argument("--text-steps", type=at_least(1), default=1000)
    parser.add_argument("--batch", type=at_least(1), default=256)
    parser.add_argument("--lr", type=at_least(0, float), default=2e-3)
    parser.add_argument("--weight-decay", type=at_least(0, float), default=0.05)
    parser.add_argument("--processes", type=at_least(1), default=2, help="for drawing")
    parser.add_argument("--threads", type=at_least(1), default=1, help="for training")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", help="train in fp32")
    return parser.parse_args(argv)


if __name__ == "__main__":
    with clean_errors():
        arguments = parse()  # a slip is said before the imports, which take seconds

        from datasets.toy.training import main

        main(arguments)
