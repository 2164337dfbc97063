"""One entry to all commands.

    python mm.py                       lists them
    python mm.py COMMAND --help        what one takes
    python mm.py train --trainer CoOp ...

`python mm.py launch ...` is `python tools/launch.py ...`, word for word.
"""

import ast
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def commands() -> dict[str, Path]:
    """The programs of this project by name."""
    tools = sorted(path for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__")
    return {path.stem: path for path in (ROOT / "train.py", *tools)}


def summary(program: Path) -> str:
    """The first sentence of a program's docstring, read without running it."""
    text = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""
    return text.split("\n", 1)[0].rstrip(".:")


def main() -> None:
    """Become the program that is asked for, or list all."""
    programs = commands()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print("python mm.py COMMAND ...; python mm.py COMMAND --help says what it takes\n")
        for known, path in programs.items():
            print(f"  {known:{max(map(len, programs))}}  {summary(path)}")
    elif name not in programs:
        sys.exit(_unknown(name, programs))
    else:
        os.execv(sys.executable, [sys.executable, str(programs[name]), *arguments])


def _unknown(name: str, programs: dict[str, Path]) -> int:
    print(f"error: command {name!r} is unknown, choose from: {', '.join(programs)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
