"""Pictures to look at.

python tools/show.py dataset eurosat --root DATA --output eurosat.png      one image each of some classes
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs.argument_types import expanded_text
from runs.errors import OneLineParser, clean_errors
from runs.importing import importing


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    add = kinds.add_parser("dataset", help="one image each of some classes").add_argument
    add("name", metavar="NAME", help="the data set, as configs/datasets names it")
    add("--root", type=expanded_text, required=True, help="the folder that the data sets lie in")
    add("--output", type=expanded_text, required=True, help="the picture (.png, .jpg, .pdf or .svg)")
    add("--classes", type=int, default=20, help="how many classes, at even distances (20)")
    add("--part", choices=["train", "val", "test"], default="test")
    add("--seed", type=int, default=0, help="chooses the image of each class")
    args = parser.parse_args(argv)
    if args.classes < 1:
        parser.error(f"--classes {args.classes} must be 1 or more")
    if Path(args.output).suffix not in (".png", ".jpg", ".pdf", ".svg"):
        parser.error(f"--output {args.output} must end in .png, .jpg, .pdf or .svg")
    return args


with importing():
    if __name__ == "__main__":  # a slip is said before the imports, which take seconds
        parse(None)

    from matplotlib.figure import Figure

    from dassl.data.datasets import Datum
    from dassl.utils import read_image
    from datasets.fewshot import rank
    from datasets.split import Item
    from tools.preparing.data_sets import load


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    data = load(args.name, args.root)
    images = {"train": data.train_x, "val": data.val, "test": data.test}[args.part] or []
    if not images:
        raise ValueError(f"{args.name} has no {args.part} images")
    chosen = choose(images, Path(data.image_dir), args.classes, args.seed)
    title = f"{args.name}: {len(chosen)} of {data.num_classes} classes"
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    gallery(chosen, title).savefig(args.output, dpi=100)
    print(f"{args.output}: {title}, {args.part} images")


def choose(images: list[Datum], folder: Path, classes: int, seed: int) -> list[Datum]:
    """One image of each of so many classes, which lie at even distances among the labels.

    The choice depends on the images' paths below `folder` alone, so it is the same for everybody.
    """
    labels = sorted({image.label for image in images})
    count = min(classes, len(labels))
    chosen = [labels[i * len(labels) // count] for i in range(count)]
    by_path = {Path(image.impath).relative_to(folder).as_posix(): image for image in images}
    of_label: dict[int, list[Item]] = {label: [] for label in chosen}
    for path, image in by_path.items():
        if image.label in of_label:
            of_label[image.label].append(Item(path, image.label, image.classname))
    return [by_path[rank(items, seed)[0].path] for items in of_label.values()]


def gallery(images: list[Datum], title: str) -> Figure:
    """The images with their class names, cut to squares."""
    rows = math.ceil(len(images) / max(5, math.ceil(math.sqrt(2 * len(images)))))
    columns = math.ceil(len(images) / rows)
    figure = Figure(figsize=(1.7 * columns, 2.05 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, image in zip(axes, images):
        picture = read_image(image.impath)
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        axis.imshow(picture.crop((left, top, left + side, top + side)).resize((160, 160)))
        name = image.classname.replace("_", " ")
        axis.set_title("\n".join(textwrap.wrap(name, 22)[:2]), fontsize=8, parse_math=False)
    for axis in figure.axes:
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
