import os
from pathlib import Path

import pytest

from runs.folder import (
    can_continue,
    check_room,
    is_overwritten,
    log_as_before,
    set_aside,
    settle,
    working_in,
)


def test_a_failure_leaves_no_trace(tmp_path):
    folder = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="wrong"), working_in(folder), log_as_before(folder):
        (folder / "log.txt").write_text("begun")
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "log.txt").write_text("of the first run")
    (tmp_path / "other_run").mkdir()
    with pytest.raises(ValueError, match="wrong"), working_in(tmp_path), log_as_before(tmp_path):
        (tmp_path / "log.txt-2").write_text("begun")
        (tmp_path / "other_run" / "log.txt").write_text("a run at the same time")
        raise ValueError("wrong")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["log.txt", "log.txt", "other_run"]


def test_a_success_leaves_the_folder(tmp_path):
    folder = tmp_path / "run"
    with working_in(folder), log_as_before(folder):
        (folder / "log.txt").write_text("begun")
    assert [path.name for path in folder.iterdir()] == ["log.txt"]


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="cannot be written: Not a directory"),
        working_in(tmp_path / "file" / "x"),
    ):
        pass


def test_a_disk_that_is_nearly_full_says_how_much_is_free(small_disk):
    folder, _ = small_disk
    with pytest.raises(OSError, match=r"disk/run: the disk is full, 2 MiB are free, 100 MiB are needed"):
        check_room(folder / "run")


def test_a_full_disk_is_found_before_anything_is_computed(small_disk, run_train, short_run):
    folder, _ = small_disk
    (folder / "filled").write_bytes(bytes(2**21))
    ended = run_train(*short_run, "OUTPUT_DIR", folder / "run")
    ended.assert_wrong_input(f"output folder {folder / 'run'} cannot be written: No space left on device")
    assert [path.name for path in folder.iterdir()] == ["filled"]


def test_a_read_only_disk_is_found_before_anything_is_computed(small_disk, run_train, short_run):
    folder, make_read_only = small_disk
    make_read_only()
    ended = run_train(*short_run, "OUTPUT_DIR", folder / "run")
    ended.assert_wrong_input(f"output folder {folder / 'run'} cannot be written: Read-only file system")


KEPT = ["notes.txt", "prompt_learner/mine.pt"]
OF_RUN = [
    *(
        "result.json",
        "log.txt",
        "log.txt-2026",
        "run.json",
        "resume.pth.tar",
        "cmat.pt",
        "tensorboard/events",
    ),
    *("prompt_learner/checkpoint", "prompt_learner/model.pth.tar-5", "prompt_learner/model-best.pth.tar"),
]


def leave(folder, names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_is_set_aside_and_nothing_else(tmp_path):
    leave(tmp_path, KEPT + OF_RUN)
    assert can_continue(tmp_path)
    set_aside(tmp_path, "train")
    assert is_overwritten(tmp_path)
    moved = {name if name != "result.json" else "replaced.json" for name in OF_RUN}
    assert files(tmp_path / ".replaced") == sorted(moved)
    assert files(tmp_path) == sorted([*KEPT, *(f".replaced/{name}" for name in moved)])
    assert not can_continue(tmp_path)


def test_an_evaluation_has_no_checkpoints(tmp_path):
    leave(tmp_path, OF_RUN)
    set_aside(tmp_path, "eval")
    assert (tmp_path / "prompt_learner" / "model.pth.tar-5").exists()
    assert not (tmp_path / "result.json").exists()


def test_the_log_that_has_begun_takes_the_name(tmp_path):
    leave(tmp_path, [*OF_RUN, "log.txt-2027"])
    set_aside(tmp_path, "train", new={tmp_path / "log.txt-2027"})
    assert (tmp_path / "log.txt").read_text() == "log.txt-2027"
    assert (tmp_path / ".replaced" / "log.txt").read_text() == "log.txt"


def test_of_two_overwrites_the_finished_run_is_kept(tmp_path):
    leave(tmp_path, OF_RUN)
    set_aside(tmp_path, "train")
    leave(tmp_path, ["run.json", "resume.pth.tar", "prompt_learner/model.pth.tar-1"])
    set_aside(tmp_path, "train")
    assert (tmp_path / ".replaced" / "replaced.json").read_text() == "result.json"
    assert files(tmp_path) == files_of_replaced(tmp_path)


def files_of_replaced(folder: Path) -> list[str]:
    return sorted(f".replaced/{name}" for name in files(folder / ".replaced"))


@pytest.mark.parametrize("moved", range(len(OF_RUN)))
def test_a_move_that_was_cut_off_is_undone(tmp_path, monkeypatch, moved):
    leave(tmp_path, OF_RUN)
    before, replace, count = files(tmp_path), os.replace, 0

    def cut_off(source, target):
        nonlocal count
        count += 1
        if count > moved:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("runs.folder.os.replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        set_aside(tmp_path, "train")
    monkeypatch.setattr("runs.folder.os.replace", replace)
    settle(tmp_path)
    assert files(tmp_path) == before
    assert not (tmp_path / ".replaced").exists()


def test_when_the_new_record_stands_the_old_run_goes(tmp_path):
    leave(tmp_path, OF_RUN)
    set_aside(tmp_path, "train")
    leave(tmp_path, ["result.json"])
    settle(tmp_path)
    assert files(tmp_path) == ["result.json"]


def test_remains_of_an_unfinished_run_do_not_come_back(tmp_path):
    leave(tmp_path, OF_RUN[1:])
    set_aside(tmp_path, "train")
    leave(tmp_path, ["result.json"])
    settle(tmp_path)
    assert files(tmp_path) == ["result.json"]


def test_where_there_was_nothing_it_is_known_that_an_overwrite_has_begun(tmp_path):
    set_aside(tmp_path, "train")
    assert is_overwritten(tmp_path)
    leave(tmp_path, ["result.json"])
    assert not is_overwritten(tmp_path)
    settle(tmp_path)
    assert files(tmp_path) == ["result.json"]
