import os
import threading

import pytest

from foundation.atomic import atomic_write


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_new_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "atomic") as file:
        file.write("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_readers_see_whole_files_while_several_write(tmp_path):
    path = tmp_path / "a.txt"
    contents = [letter * 50_000 for letter in "abcd"]
    path.write_text(contents[0])

    def write(content):
        for _ in range(10):
            with atomic_write(path) as file:
                file.write(content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in contents
    for writer in writers:
        writer.join()
    assert os.listdir(tmp_path) == ["a.txt"]
