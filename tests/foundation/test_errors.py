"""Whose an error is: the user's, or a bug's."""

import os
import shutil
from pathlib import Path

import pytest

from foundation.errors import MissingFile, UserError, WrongInput, is_the_users

HERE = [Path(__file__).resolve().parent]


def caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def on_purpose():
    raise ValueError("a wrong value")


def on_purpose_from(text):
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no number") from error


def raise_with_context(text):
    with open(__file__):
        return int(text)


def raised_again(text):
    try:
        return int(text)
    except ValueError:
        print("what a pity")
        raise


def unpack(values):
    a, b = values
    return a, b


class Refuses:
    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    ("function", "argument"), [(on_purpose_from, "old2"), (Refuses(ValueError("x")).__getitem__, 3)]
)
def test_what_our_raise_statements_raise_is_the_users(function, argument):
    assert is_the_users(caught(function, argument), HERE)


@pytest.mark.parametrize("function", [int, raise_with_context, raised_again, unpack, float])
def test_what_comes_out_of_a_call_is_a_bug(function):
    assert isinstance(caught(function, "old2"), ValueError)
    assert not is_the_users(caught(function, "old2"), HERE)


def test_the_classes_say_it_wherever_they_are_raised():
    for kind, builtin in ((WrongInput, ValueError), (MissingFile, FileNotFoundError)):
        error = kind("wrong")
        assert isinstance(error, (UserError, builtin))
        assert is_the_users(caught(Refuses(error).__getitem__, 0), [])
    assert not is_the_users(caught(on_purpose), [Path("/elsewhere")])


@pytest.mark.parametrize("function", [os.remove, lambda path: Path(path).read_text(), shutil.copyfile])
def test_what_the_system_refuses_is_no_bug(tmp_path, function):
    """Wherever in the standard library it was asked."""
    arguments = [tmp_path / "gone", tmp_path / "copy"][: 1 + (function is shutil.copyfile)]
    assert is_the_users(caught(function, *arguments), HERE)


def test_other_types_are_bugs():
    assert not is_the_users(caught(Refuses(KeyError("x")).__getitem__, 0), HERE)
    assert not is_the_users(caught(Refuses(RuntimeError("x")).__getitem__, 0), HERE)
