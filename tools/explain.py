"""What a trained model sees in an image: which patch is matched with which word, as a page and as figures.

    python tools/explain.py output/shapes/MMTPA one.png two.jpg          RUN/explain/explain.html, for a browser
    python tools/explain.py output/shapes/MMTPA one.png --png --top 3    and RUN/explain/one.png, for a paper
    python tools/explain.py output/shapes/MMTPA --words                  the vocabulary's entries nearest to the context

RUN is the output folder of a finished run. For MMTPA and PLOT the maps are the transport's plans; for other methods,
which match nothing, the cosines of patches and classes. docs/explain.md says how to read them, and what they do not
show. Everything is computed in fp32, image by image.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs.errors import OneLineParser, clean_errors
from runs.importing import importing

PAGE = "explain.html"


def make_parser() -> argparse.ArgumentParser:
    """The arguments of this program."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", metavar="RUN", help="output folder of a finished run")
    add("images", metavar="IMAGE", nargs="*", type=Path)
    add("--top", metavar="K", type=int, default=5, help="classes of each image, the best ones (5)")
    add("--output", metavar="FOLDER", type=Path, help="where the page and the figures go; RUN/explain")
    add("--png", action="store_true", help="a figure of each image beside the page")
    add("--force", action="store_true", help="overwrite what is there")
    add("--words", action="store_true", help="print the vocabulary's entries nearest to each context token")
    return parser


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments, checked as far as they can be by themselves."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.top < 1:
        parser.error(f"--top {args.top} must be 1 or more")
    if not args.images and not args.words:
        parser.error("an IMAGE or --words is needed")
    return args


with importing():
    if __name__ == "__main__":  # before the imports, which take seconds
        read_arguments()

    from PIL import Image

    from dassl.utils import read_image
    from runs.prediction import TrainedRun
    from runs.trained import load_run
    from tools.explaining.figure import figure
    from tools.explaining.maps import Explanation, explain
    from tools.explaining.page import page
    from tools.explaining.words import as_text, nearest_words


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = read_arguments(argv)
    folder = args.output or Path(args.run, "explain")
    names = file_names(args.images, args.png)
    if args.images:
        check_free(folder, [PAGE, *names], args.force)
    run = load_run(args.run, precision="fp32")
    if args.words:
        for line in as_text(nearest_words(run.model, run.classnames)):
            print(line)
    if args.images:
        explanations = [explain_one(run, path, args.top) for path in args.images]
        try:
            write(folder, run, explanations, names)
        except OSError as error:
            raise OSError(f"folder {folder} cannot be written: {error.strerror}") from error
        print(f"{folder / PAGE}{f' and {len(names)} .png beside it' if names else ''}")


def file_names(images: list[Path], wanted: bool) -> list[str]:
    """Of the images' figures, all different."""
    names: list[str] = []
    for path in images if wanted else []:
        name, number = f"{path.stem}.png", 1
        while name in names:
            number += 1
            name = f"{path.stem}-{number}.png"
        names.append(name)
    return names


def check_free(folder: Path, names: list[str], force: bool) -> None:
    """Refuse to overwrite unless that is asked for."""
    there = [folder / name for name in names if (folder / name).exists()]
    if there and not force:
        raise FileExistsError(f"{there[0]} exists: --force overwrites it, --output names another folder")


def explain_one(run: TrainedRun, path: Path, k: int) -> Explanation:
    """Read and explain an image, and say what it is taken for.

    Raises:
        FileNotFoundError, ValueError: it does not exist, cannot be read, or is too small to have parts.
    """
    with warnings.catch_warnings():  # large pictures are welcome, and shown smaller
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        picture = read_image(path)
    if min(picture.size) < 2:
        raise ValueError(
            f"{path} has {picture.width} x {picture.height} pixels: at least 2 x 2 are needed to tell its parts apart"
        )
    explanation = explain(run.model, picture, run.prepare, run.classnames, k, path.name)
    best = explanation.candidates[0]
    print(f"{path}: {best.name.replace('_', ' ')} ({best.probability:.2%}){_strongest(explanation)}")
    return explanation


def _strongest(explanation: Explanation) -> str:
    """What of the best class is matched most with what."""
    found = explanation.candidates[0].strongest
    if found is None:
        return ""
    word, token, times = found
    rows, columns = explanation.grid
    where = f"row {token // columns + 1}, column {token % columns + 1}"
    if token >= rows * columns:
        where = f"visual prompt token {token - rows * columns + 1}"
    return f"; most mass between “{word}” and {where}, {times:.1f} times that of the uniform plan"


def write(folder: Path, run: TrainedRun, explanations: list[Explanation], names: list[str]) -> None:
    """Write all files, each whole: first aside, then in their places."""
    title = f"{run.record['trainer']} on {run.record['dataset']}"
    about = f"Backbone {run.record['backbone']}, seed {run.record['seed']}; computed in fp32, image by image."
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".explain-", dir=folder) as aside:
        new = Path(aside)
        (new / PAGE).write_text(page(title, explanations, about), encoding="utf-8")
        for name, explanation in zip(names, explanations):
            figure(explanation, f"{title}, backbone {run.record['backbone']}").savefig(new / name, dpi=150)
        for name in [PAGE, *names]:
            os.replace(new / name, folder / name)


if __name__ == "__main__":
    main()
