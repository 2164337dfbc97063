import threading
from pathlib import Path

import pytest

from datasets.files import build_once, write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(str(path), "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(str(path), "a" * 100_000 + "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "made"

    def fail() -> None:
        with build_once(str(folder)) as work:
            Path(work, "a.txt").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with build_once(str(folder)) as work:
        Path(work, "a.txt").write_text("a")
        assert not folder.exists()
    assert [p.name for p in tmp_path.rglob("*")] == ["made", "a.txt"]


def test_the_first_builder_wins_and_the_others_go_on(tmp_path: Path) -> None:
    folder, barrier = tmp_path / "made", threading.Barrier(8)

    def build(number: int) -> None:
        with build_once(str(folder)) as work:
            Path(work, "whose").write_text(str(number))
            barrier.wait()

    threads = [threading.Thread(target=build, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (folder / "whose").read_text() in "01234567"
    assert list(tmp_path.iterdir()) == [folder]
