"""One step of a protocol, by name: what the scripts in scripts/ call.

    python tools/step.py base2new_train CoOp vit_b16 dtd 1 16

Prints the command of train.py, and runs it unless its folder holds the finished run. The environment
variables DATA and OUTPUT name the folders of the data sets and of the results (data and output in the checkout).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs import ROOT
from runs.errors import clean_errors
from tools.launching.cell import SHOTS, Cell
from tools.launching.run import Run, as_typed
from tools.launching.state import finished
from tools.protocols import STEPS

FIRST = ("TRAINER", "CFG", "DATASET", "SEED")


def runs_of(step: str, words: list[str]) -> list[Run]:
    """The runs of `step` for the arguments `words`; ValueError for a wrong or missing one."""
    if step not in STEPS:
        raise ValueError(f"step {step!r} is unknown, choose from: {', '.join(STEPS)}")
    more = STEPS[step].words
    given: dict[str, str] = {}
    rest = list(words)
    for name in (*FIRST, *more):
        # Settings begin at the first word like OPTIM.LR; of the four that every step has, none is like that.
        if not rest or (name in more and re.match(r"[A-Z]", rest[0])):
            break
        given[name] = rest.pop(0)
    needed = (*FIRST, *(name for name, value in more.items() if value is int))
    missing = [name for name in needed if name not in given]
    if missing:
        raise ValueError(f"usage: {usage(step)} ({', '.join(missing)} missing)")
    if len(rest) % 2:
        raise ValueError(f"{rest[-1]!r} has no value (KEY VALUE pairs); usage: {usage(step)}")

    cell = Cell(
        given["TRAINER"],
        given["CFG"],
        given["DATASET"],
        _number("SEED", given["SEED"]),
        _number("SHOTS", given.get("SHOTS", SHOTS)),
        tuple(rest),
    )
    further = {
        name.lower(): given[name] if isinstance(value, str) else _number(name, given[name])
        for name, value in more.items()
        if name in given and name != "SHOTS"
    }
    return STEPS[step].runs(cell, **further)


def usage(step: str) -> str:
    """How a step's script is called."""
    optional = " ".join(name if value is int else f"[{name}]" for name, value in STEPS[step].words.items())
    return " ".join(f"scripts/{step}.sh TRAINER CFG DATASET SEED {optional} [KEY VALUE ...]".split())


def _number(name: str, word: str | int) -> int:
    if not re.fullmatch(r"-?\d+", str(word)):
        raise ValueError(f"{name} is {word!r}, an integer is needed")
    return int(word)


def folder_of(variable: str, default: str) -> Path:
    """The folder that an environment variable names, or the default one in the checkout."""
    return Path(os.environ.get(variable) or ROOT / default).expanduser().absolute()


def main() -> None:
    """Run the runs of a step one after the other; the first that fails ends it with its exit code."""
    if len(sys.argv) < 2:
        raise ValueError(f"which step? One of: {', '.join(STEPS)}")
    data, output = folder_of("DATA", "data"), folder_of("OUTPUT", "output")
    for run in runs_of(sys.argv[1], sys.argv[2:]):
        again = dict(zip(run.settings[::2], run.settings[1::2])).get("TRAIN.OVERWRITE") == "True"
        if not again and finished(run, output):
            print(f"Results are in {output / run.folder} already")
            continue
        command = run.command(data, output)
        print(as_typed(command), flush=True)
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    with clean_errors():
        main()
