import pytest

from runs.folder import can_continue, check_room, clear, started_or_as_before


def test_a_failure_leaves_no_trace(tmp_path):
    with pytest.raises(ValueError, match="wrong"), started_or_as_before(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "log.txt").write_text("begun")
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "log.txt").write_text("of the first run")
    (tmp_path / "other_run").mkdir()
    with pytest.raises(ValueError, match="wrong"), started_or_as_before(tmp_path):
        (tmp_path / "log.txt-2").write_text("begun")
        (tmp_path / "other_run" / "log.txt").write_text("a run at the same time")
        raise ValueError("wrong")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["log.txt", "log.txt", "other_run"]


def test_a_success_leaves_the_folder(tmp_path):
    with started_or_as_before(tmp_path / "run"):
        (tmp_path / "run" / "log.txt").write_text("begun")
    assert (tmp_path / "run" / "log.txt").exists()


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="cannot be written: Not a directory"),
        started_or_as_before(tmp_path / "file" / "x"),
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


def test_clear_removes_a_run_and_nothing_else(tmp_path):
    kept = ["notes.txt", "prompt_learner/mine.pt"]
    of_run = ["result.json", "log.txt", "log.txt-2026", "resume.pth.tar", "tensorboard/events"]
    of_run += [
        "prompt_learner/checkpoint",
        "prompt_learner/model.pth.tar-5",
        "prompt_learner/model-best.pth.tar",
    ]
    for name in kept + of_run:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert can_continue(tmp_path)
    clear(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == kept
    assert not can_continue(tmp_path)
