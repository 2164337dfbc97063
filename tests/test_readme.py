"""What the README says can be typed and followed."""

import re
import shlex

import pytest

import train
from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    c for c in re.findall(r"^    python train\.py (--(?:.*\\\n)*.*)$", TEXT, re.MULTILINE) if "KEY" not in c
]


def test_there_are_commands():
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_train_py_takes(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = train.setup_cfg(train.make_parser().parse_args(shlex.split(command.replace("\\\n", ""))))
    train.check_values(cfg)


def test_every_file_it_names_is_there():
    names = set(re.findall(r"\]\(([\w/.-]+)\)|\b((?:tools|scripts|docs|clip|configs)/[\w/.-]+\.\w+)", TEXT))
    missing = [name for pair in names for name in pair if name and not (ROOT / name).exists()]
    assert not missing


def test_every_method_is_in_its_table():
    for folder in (ROOT / "configs" / "trainers").iterdir():
        assert f"`{folder.name}`" in TEXT
