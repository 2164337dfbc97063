"""What is mistyped, and --help, are answered at once: before anything that takes seconds is imported."""

import subprocess
import sys

import pytest

import mm
from tests.conftest import ROOT

COMMANDS = mm.commands()
HEAVY = ("torch", "open_clip", "torchvision")


def imported(*words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How a program ended, and which heavy packages it has imported."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if "import time:" in line}
    return ran, [name for name in HEAVY if name in names]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    if command == "step":
        pytest.skip("takes words of a step, no options")
    ran, heavy = imported(str(COMMANDS[command]), "--help")
    assert (ran.returncode, heavy) == (0, [])
    assert "usage: " in ran.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_slip_imports_nothing_heavy(command):
    ran, heavy = imported(str(COMMANDS[command]), "--no-such-option")
    assert (ran.returncode, heavy) == (2, [])


SLIPS = {
    "nothing at all": ([], "nothing is asked for; a run is e.g. python train.py --root data"),
    "an unknown option": (["--sed", "1"], "unrecognized arguments: --sed"),
    "a missing file": (
        ["--config-file", "configs/trainers/CoOp/mimi.yaml"],
        "configs/trainers/CoOp/mini.yaml",
    ),
    "a file that is no YAML": (["--config-file", "README.md"], "expected a .yaml file"),
    "an equals sign": (["--trainer", "CoOp", "OPTIM.LR=0.1"], "without the equals sign: OPTIM.LR 0.1"),
    "a missing value": (["OPTIM.LR", "OPTIM.MAX_EPOCH", "3"], "OPTIM.LR has no value"),
    "an option behind the pairs": (["OPTIM.LR", "1", "--seed", "3"], "--seed must stand before"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_train_is_one_line_before_anything_heavy(slip):
    words, said = SLIPS[slip]
    ran, heavy = imported("train.py", *words)
    assert (ran.returncode, heavy, ran.stdout) == (2, [], "")
    (line,) = [line for line in ran.stderr.splitlines() if "import time:" not in line]
    assert line.startswith("error: ")
    assert said in line
