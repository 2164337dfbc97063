import os
import threading
from contextlib import suppress

import pytest
import torch

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


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, replace = [], os.replace

    def flush(descriptor):
        order.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("named"), replace(*names)))
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("whole")
    assert order == [5, "named"]


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


@pytest.mark.parametrize("numbers", [3, 10_000_000])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(small_disk, numbers):
    disk, _ = small_disk
    path = disk / "model.pth.tar-1"
    path.write_text("old")
    with open(disk / "rest", "wb", buffering=0) as rest, suppress(OSError):
        while rest.write(bytes(4096)):
            pass
    with pytest.raises(OSError, match="No space left on device") as error, atomic_write(path, "wb") as file:
        torch.save({"weights": torch.zeros(numbers), "bias": torch.zeros(numbers)}, file)
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert sorted(os.listdir(disk)) == ["model.pth.tar-1", "rest"]


def test_a_folder_that_is_gone_names_the_file(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="No such file") as error,
        atomic_write(tmp_path / "run" / "a.json"),
    ):
        pass
    assert error.value.filename == str(tmp_path / "run" / "a.json")
