from pathlib import Path

import pytest

from datasets.split import load_split
from trainers.class_names import check_prompts

PAIRS = [
    ("Red fox", "red fox"),
    ("red__fox", "red fox"),
    ("red fox", " red  fox "),
    ("red_fox", "red\u00a0fox"),
    ("salt &amp; pepper", "salt & pepper"),
    ("caf\u00e9", "caf&eacute;"),
    ("red fox", "red fox"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_that_become_one_prompt(one: str, other: str, capsys: pytest.CaptureFixture) -> None:
    message = f"Toy: class names become one prompt, and cannot be told apart: {one!r} and {other!r}"
    with pytest.raises(ValueError) as caught:
        check_prompts([one, "badger", other], "Toy", True)
    assert str(caught.value) == f"{message}; give one of them another name"
    check_prompts([one, "badger", other], "Toy", False)
    assert capsys.readouterr().out == f"Warning: {message}\n"


def test_names_that_differ(capsys: pytest.CaptureFixture) -> None:
    check_prompts(["red fox", "redfox", "red-fox", "737-200", "737-300", "F/A-18", "F-16A/B"], "Toy", True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["", "_", " ", "&nbsp;"])
def test_a_name_that_leaves_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=f"Toy: of the class name '{name}' the tokenizer leaves nothing"):
        check_prompts(["red fox", name], "Toy", False)


def test_published_names_differ(shared: Path) -> None:
    for file in sorted((shared / "data" / "splits").glob("split_zhou_*.json")):
        names = {item.label: item.classname for item in load_split(str(file)).train}
        check_prompts(list(names.values()), file.stem, True)
