"""Export what a run has trained to a form that other programs read.

    python tools/export.py output/shapes/CoOp --to safetensors --output exported

RUN is the output folder of a finished run. The forms:

    safetensors  one vector for each class, for programs that have the image tower (open_clip)
    onnx         a graph from images to logits, with everything in it
    hub          a folder for the Hugging Face hub, which tools/predict.py and MODEL.INIT_WEIGHTS read
    open_clip    a whole CLIP, for methods that change its weights

docs/using.md shows how each is used. Everything is computed in fp32.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs.argument_types import expanded
from runs.class_list import class_names
from runs.errors import OneLineParser, clean_errors
from runs.importing import importing
from tools.exporting import folder

FORMS = ("safetensors", "onnx", "hub", "open_clip")


@clean_errors()
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    folder.check(args.output, args.force)

    with importing():
        from runs.trained import load_run
        from tools.exporting import classifier, graph, hub, whole_model

    run = load_run(args.run, args.classes, "cpu", precision="fp32", backbone=args.backbone)
    form = {"safetensors": classifier, "onnx": graph, "hub": hub, "open_clip": whole_model}[args.to]
    if form is not hub:
        form.check(run)
    with folder.filled(args.output) as place:
        said = form.write(run, place)
    print(f"{args.output}: {run.record['trainer']}, {len(run.classnames)} classes; {said}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", metavar="RUN", help="output folder of a finished run")
    add("--to", required=True, choices=FORMS, help="the form")
    add("--output", required=True, type=expanded, metavar="FOLDER", help="where the files go")
    add("--classes", type=class_names, help="other classes: a file with a name a line, or NAME,NAME,...")
    add("--backbone", help="where the backbone's weights are, if they are not where the run had them")
    add("--force", action="store_true", help="replace files that exist")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
