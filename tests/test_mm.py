"""The entry to all commands."""

import subprocess
import sys

from tests.conftest import ROOT


def mm(*words, cwd=ROOT):
    return subprocess.run([sys.executable, ROOT / "mm.py", *words], cwd=cwd, capture_output=True, text=True)


def test_it_lists_every_command_with_what_it_does():
    ran = mm()
    programs = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"__init__"} | {"train"}
    lines = [line.split(maxsplit=1) for line in ran.stdout.splitlines() if line.startswith("  ")]
    assert ran.returncode == 0
    assert {name for name, _ in lines} == programs
    assert all(what[0].isupper() for _, what in lines)


def test_it_becomes_the_program_with_its_arguments_and_exit_code(tmp_path):
    ran = mm("compare", "here", "there", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert "here" in ran.stderr


def test_an_unknown_command_is_named_with_all_there_are():
    ran = mm("lunch")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: command 'lunch' is unknown, choose from: train, ")
    assert "launch" in ran.stderr
