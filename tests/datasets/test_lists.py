from pathlib import Path

import pytest

from datasets.lists import look_up, read_lines


def test_lines_come_without_white_space(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "list.txt").write_bytes("café \r\n\r\n  b c\n".encode(encoding))
        assert read_lines(str(tmp_path / "list.txt")) == ["café", "b c"]


def test_what_is_not_there_is_named() -> None:
    assert look_up({"a": 1}, "a", "list.txt") == 1
    with pytest.raises(ValueError, match=r"^list.txt has no 'b'$"):
        look_up({"a": 1}, "b", "list.txt")
