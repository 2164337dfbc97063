import codecs
from pathlib import Path
from typing import Any

import pytest

from datasets.image_folder import PART_NAMES
from datasets.table import read_table


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(text: str | bytes, encoding: str = "") -> dict[str, list[tuple[str, str]]]:
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "list.csv").write_bytes(content)
        return dict(read_table(str(tmp_path / "list.csv"), encoding, str(tmp_path), PART_NAMES))

    return read


PLAIN = "path,class,split\na/1.jpg,red fox,train\nb/2.jpg,badger,test\n"
MEANT = {"train": [("a/1.jpg", "red fox")], "test": [("b/2.jpg", "badger")]}


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ", "),
        PLAIN.replace("\n", ",,\n"),
        PLAIN.replace("\n", "\n\n,,\n"),
        PLAIN.replace("path,class,split", "Path,CLASS,Split")
        .replace("train", "Training")
        .replace("test", "TEST"),
        PLAIN.replace("red fox", '"red fox"').replace("badger", ' "badger"'),
        PLAIN.replace("red fox", "red fox  "),
        PLAIN.replace("a/1", "a\\1").replace("b/2", ".\\b\\2"),
        PLAIN.replace("a/1", "./a//1"),
        "split,class,path\ntrain,red fox,a/1.jpg\ntest,badger,b/2.jpg",
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("utf-16"),
    ],
)
def test_what_programs_write_is_understood(read: Any, text: str | bytes) -> None:
    assert read(text) == MEANT


def test_an_encoding_is_named_and_not_guessed(read: Any) -> None:
    text = PLAIN.replace("badger", "Bär").encode("cp1252")
    with pytest.raises(
        ValueError, match=r"list.csv, line 3: this is no utf-8 text \(byte 0xe4\); save it as UTF-8"
    ):
        read(text)
    assert read(text, "cp1252")["test"] == [("b/2.jpg", "Bär")]


def test_a_backslash_may_be_a_part_of_a_name(read: Any, tmp_path: Path) -> None:
    (tmp_path / "a\\1.jpg").touch()
    assert read("path,class\na\\1.jpg,x\na\\2.jpg,x\n") == {"": [("a\\1.jpg", "x"), ("a/2.jpg", "x")]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns path, class and maybe split, not none"),
        ("path,class\n", "names no images"),
        ("1.jpg,a\n2.jpg,b\n", "must have the columns path, class and maybe split, not 1.jpg, a"),
        ("path,class,split,split\n", "not path, class, split, split"),
        (
            "path,class\n1.jpg,red fox, male\n",
            "line 2: expected path, class, where .* found 1.jpg, red fox, male",
        ),
        ("path,class,split\n1.jpg,a,\n", "line 2: expected"),
        ("path,class\n# a comment\n", "line 2: expected"),
        ('path,class\n1.jpg,"red fox\n2.jpg,b\n', "line 3: unexpected end of data"),
        ('path,class\n1.jpg,"red" fox\n', "line 2: ',' expected after '\"'"),
        ("path,class\nC:\\x\\1.jpg,a\n", "line 2: 'C:/x/1.jpg' must be a path below the image folder"),
        ("path,class\n..\\1.jpg,a\n", "line 2: '../1.jpg' must be a path below the image folder"),
        ("path,class\n/data/1.jpg,a\n", "line 2: '/data/1.jpg' must be a path below"),
        ("path,class\n.,a\n", "line 2: '.' must be a path below"),
        ("path,class\n1.jpg,a\n./1.jpg,b\n", "line 3: 1.jpg is in line 2 already"),
        ("path,class\na/1.jpg,a\na\\1.jpg,b\n", "line 3: a/1.jpg is in line 2 already"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(read: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    assert "list.csv" in str(caught.value)
