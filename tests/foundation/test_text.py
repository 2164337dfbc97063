from pathlib import Path

import pytest

from foundation.text import read_json, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("named", ["", "cp1252"])
def test_a_mark_says_what_the_encoding_is(tmp_path: Path, encoding: str, named: str) -> None:
    (tmp_path / "a.txt").write_text("Bär\r\né\n", encoding=encoding, newline="")
    text = read_text(str(tmp_path / "a.txt"), "" if encoding == "utf-8" else named)
    assert text == "Bär\r\né\n"


def test_other_encodings_are_named_by_the_user_and_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("path,class\n1.jpg,Bär\n", encoding="cp1252")
    with pytest.raises(
        ValueError, match=r"a.csv, line 2: this is no utf-8 text \(byte 0xe4\); save it as UTF-8"
    ):
        read_text(str(path))
    assert read_text(str(path), "cp1252") == "path,class\n1.jpg,Bär\n"
    with pytest.raises(ValueError, match="there is no encoding 'windows'"):
        read_text(str(path), "windows")
    path.write_text("path,class\n", encoding="utf-16-le")
    with pytest.raises(ValueError, match="is no utf-8 text, it has zero bytes"):
        read_text(str(path))
    assert read_text(str(path), "utf-16-le") == "path,class\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_json_is_not_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"a.json is not a JSON file: .*{reason}") as caught:
        read_json(str(path))
    assert "\n" not in str(caught.value)
    path.write_text('{"a": [1, 2.5]}', encoding="utf-8-sig")
    assert read_json(str(path)) == {"a": [1, 2.5]}
