"""One step of a protocol, by name: what the scripts in scripts/ call.

    python tools/step.py base2new_train CoOp vit_b16 dtd 1 16

Prints the command of train.py, and runs it unless its folder holds the finished run. The environment
variables DATA and OUTPUT name the folders of the data sets and of the results (data and output in the checkout).
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runs import ROOT
from runs.errors import clean_errors
from tools.launching import protocols
from tools.launching.protocols import SHOTS, SOURCE, Cell, Run, as_typed
from tools.launching.state import finished

# What may follow TRAINER CFG DATASET SEED, in this order; a value where it may be left out.
ARGUMENTS: dict[str, dict[str, int | str | None]] = {
    "fewshot": {"SHOTS": SHOTS},
    "base2new_train": {"SHOTS": SHOTS},
    "base2new_test": {"SHOTS": SHOTS},
    "xd_train": {"SHOTS": SHOTS},
    "xd_test": {"SHOTS": SHOTS, "SOURCE": SOURCE},
    "dg_test": {"SHOTS": SHOTS, "SOURCE": SOURCE},
    "prompt_length": {"N_CTX": None, "SHOTS": SHOTS},
    "overfitting": {"SHOTS": SHOTS},
    "zeroshot": {},
}


def runs_of(step: str, words: list[str]) -> list[Run]:
    """The runs of `step` for the arguments `words`; ValueError for a wrong or missing one."""
    if step not in ARGUMENTS:
        raise ValueError(f"step {step!r} is unknown, choose from: {', '.join(ARGUMENTS)}")
    wanted: dict[str, int | str | None] = {"TRAINER": None, "CFG": None, "DATASET": None, "SEED": None}
    wanted |= ARGUMENTS[step]
    given: dict[str, str] = {}
    rest = list(words)
    for name in wanted:
        # Settings begin at the first word like OPTIM.LR; of the four that every step has, none is like that.
        if not rest or (name not in ("TRAINER", "CFG", "DATASET", "SEED") and re.match(r"[A-Z]", rest[0])):
            break
        given[name] = rest.pop(0)
    missing = [name for name, value in wanted.items() if value is None and name not in given]
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
    if step in ("xd_test", "dg_test"):
        return protocols.transfer_test(cell, given.get("SOURCE", SOURCE), step)
    if step == "prompt_length":
        return protocols.prompt_length(cell, _number("N_CTX", given["N_CTX"]))
    function: Callable[[Cell], list[Run]] = getattr(protocols, step)
    return function(cell)


def usage(step: str) -> str:
    """How a step's script is called."""
    optional = " ".join(name if value is None else f"[{name}]" for name, value in ARGUMENTS[step].items())
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
        raise ValueError(f"which step? One of: {', '.join(ARGUMENTS)}")
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
