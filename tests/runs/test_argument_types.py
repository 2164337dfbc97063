import argparse
from pathlib import Path

import pytest

from runs.argument_types import at_least, expanded
from tools.launch import make_parser


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "nan"])
def test_a_number_out_of_range_is_named(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}': a whole number, 1 or more, is needed"):
        at_least(1)(text)


def test_numbers_within_range():
    assert at_least(1)("1") == 1
    assert at_least(0, float)("0.5") == 0.5


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/data") == Path("/home/me/data")


WORDS = ["fewshot", "--trainers", "CoOp"]
OUT_OF_RANGE = [
    ("--jobs", "0"),
    ("--threads", "0"),
    ("--hours", "-1"),
    ("--memory", "0"),
    ("--at-a-time", "0"),
]


@pytest.mark.parametrize(("option", "value"), OUT_OF_RANGE)
def test_launch_says_so_in_one_line(option, value, capsys):
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args([*WORDS, option, value])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: argument {option}: '{value}': ")
