"""The examples in docstrings give what stands there."""

import doctest
import importlib
import inspect

import pytest

import alignment
from tests.conftest import ROOT

FOLDERS = ("alignment", "benchmarks", "clip", "dassl", "datasets", "foundation", "runs", "tools", "trainers")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples():
    assert len(MODULES) >= 4


def test_every_function_of_the_transport_has_one():
    functions = [name for name in alignment.__all__ if inspect.isfunction(getattr(alignment, name))]
    assert "token_transport" in functions
    assert [name for name in functions if ">>> " not in getattr(alignment, name).__doc__] == []


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    # An example of a library's use is read beside its import.
    names = {**vars(module), "torch": importlib.import_module("torch")}
    failed, tried = doctest.testmod(module, globs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (failed, tried > 0) == (0, True)
