"""Who may import whom, as docs/architecture.md says: arrows point down, and nobody imports a command."""

import ast

import pytest

from tests.conftest import ROOT

#: A folder (or program) and the folders that it may import from, itself aside. In the page, too.
MAY_IMPORT = {
    "foundation": set(),
    "alignment": set(),
    "clip": set(),
    "dassl": {"foundation"},
    "datasets": {"dassl", "foundation"},
    "trainers": {"dassl", "clip", "alignment", "foundation"},
    "runs": {"dassl", "datasets", "trainers", "foundation"},
    "tools": {"dassl", "datasets", "trainers", "clip", "runs", "foundation"},
    "benchmarks": {"dassl", "datasets", "trainers", "clip", "alignment", "runs", "foundation"},
    "train": {"dassl", "datasets", "trainers", "runs", "foundation"},
}
COMMANDS = {
    "train",
    *(f"tools.{path.stem}" for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__"),
}
FILES = [
    path
    for folder in MAY_IMPORT
    for path in ([ROOT / "train.py"] if folder == "train" else sorted((ROOT / folder).rglob("*.py")))
]


def imported(path):
    """Names of the project's modules that a file imports, wherever it does, with the line."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in MAY_IMPORT:
                yield node.lineno, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_point_down(path):
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    for line, name in imported(path):
        other = name.split(".")[0]
        assert other == own or other in MAY_IMPORT[own], f"{path}:{line} imports {name}"
        assert name not in COMMANDS, f"{path}:{line} imports the command {name}"


def test_the_page_says_the_same():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for own, others in MAY_IMPORT.items():
        line = f"    {own + ('.py' if own == 'train' else ''):<11} -> {', '.join(sorted(others)) or 'none of them'}"
        assert line in text.splitlines()
