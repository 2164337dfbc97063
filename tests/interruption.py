"""Ends a program at a moment of its work and not of the clock: before it touches its output folder for the n-th time.

Between two touches a program that ends leaves the same behind, so these are all the moments there are; and
unlike seconds they are the same on every machine.
"""

import json
import os
from pathlib import Path

# Python imports a module of this name when it starts.
HOOK = """
import json, os, signal, sys, time

program, folder, name, at, action, mark = json.loads(os.environ["TESTS_INTERRUPTION"])
touches = 0

def touched(event, arguments):
    global touches
    if event not in ("open", "os.mkdir", "os.remove", "os.rename"):
        return
    path = str(arguments[event == "os.rename"])
    # A thread writes the curves, when it likes.
    if not path.startswith(folder) or name not in path or "tensorboard" in path:
        return
    touches += 1
    if touches != at:
        return
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if action != "hold":
        verb, whom = action.split()
        number = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}[verb]
        os.kill({"run": os.getpid(), "launcher": os.getppid()}[whom], number)
    time.sleep(600)  # for the end to come

if any(word.endswith(program) for word in sys.orig_argv):
    sys.addaudithook(touched)
"""


def at_touch(
    number: int, folder: Path, action: str, mark: Path, name: str = "", program: str = "train.py"
) -> dict[str, str]:
    """The environment in which one run is ended, before its touch `number` of what has `name` in its path.

    Args:
        folder: only what is below it counts.
        action: "kill", "interrupt" or "terminate", and "run" or "launcher" (who has started the run); or "hold",
            where the test does something to it.
        mark: a file that is made at that moment. Where it is there already, nothing happens.
        program: what is a run: Python with this file.
    """
    hook = mark.with_suffix(".hook")
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    described = json.dumps([program, str(folder), name, number, action, str(mark)])
    return {**os.environ, "PYTHONPATH": str(hook), "TESTS_INTERRUPTION": described}
