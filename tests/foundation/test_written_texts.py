"""The user's texts of the classes, and templates, as files hold them."""

import json
from pathlib import Path

import pytest

from foundation.errors import UserError
from foundation.written_texts import class_texts, content_hash, templates

TEXTS = {"tree_frog": ["a green frog.", "ein grüner Frosch"], "sea": ["much water"]}


def config(path: Path) -> dict[str, dict[str, str]]:
    return {"DATASET": {"CLASS_TEXTS": str(path)}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_however_it_is_encoded(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(TEXTS, ensure_ascii=False), encoding=encoding)
    assert class_texts(config(path)) == TEXTS
    assert class_texts({"DATASET": {}}) == class_texts({"DATASET": {"CLASS_TEXTS": ""}}) == {}


def test_the_hash_is_of_the_texts_and_not_of_their_file() -> None:
    assert content_hash(TEXTS) == content_hash(dict(reversed(TEXTS.items())))
    assert content_hash(TEXTS) != content_hash({**TEXTS, "sea": ["much water."]})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        ("{}", "there are no texts in it"),
        ('["a"]', "an object with a list of texts for each class"),
        ('{"sea": "water"}', "is needed; 'sea' has none"),
        ('{"sea": []}', "is needed; 'sea' has none"),
        ('{"sea": ["a", 3]}', "is needed; 'sea' has none"),
        ('{"sea": ["a", " "]}', "of 'sea' a text is empty"),
        ('{"sea": ["a {}."]}', "has {}; templates belong into DATASET.TEMPLATES"),
        ('{"sea": ["\\ud800"]}', "is no Unicode text"),
        ('{"tree frog": ["a"], "Tree_Frog": ["b"]}', "'tree frog' and 'Tree_Frog' are the same class"),
        ('{"sea": ["a"], "sea": ["b"]}', "'sea' is there twice"),
        ('{"sea": ["a"', "is not a JSON file"),
        (b'{"sea": ["\xe4"]}', "this is no utf-8 text"),
    ],
)
def test_what_are_no_class_texts_is_said_in_a_line(content: str | bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((UserError, ValueError)) as caught:
        class_texts(config(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_templates_are_taken_from_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a photo of a {}.\n\n  art of the {}. \n")
    (tmp_path / "list.JSON").write_text('["{} texture."]')
    lines, listed = str(tmp_path / "lines.txt"), str(tmp_path / "list.JSON")
    assert templates([lines, "my {}", listed]) == (
        "a photo of a {}.",
        "art of the {}.",
        "my {}",
        "{} texture.",
    )
    assert templates([]) == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file (a template has {} for the class name)"),
        ("a photo\n", "'a photo' must have one {}"),
        ("\n", "there is no template in it"),
    ],
)
def test_files_without_templates_are_refused(content: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        templates([str(path)])
    assert words in str(caught.value)


@pytest.mark.parametrize("entry", ["{} and {}", "{name}", 3])
def test_what_is_no_template_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match=r"^DATASET\.TEMPLATES "):
        templates([entry])
