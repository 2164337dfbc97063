import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.fewshot import draw_hash, draw_images, few_shot
from datasets.files import DiskFull, build_once, is_litter, write_atomically
from tests.datasets.layouts import make_split


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


def test_a_full_disk_says_so_and_is_left_as_it_was(small_disk: Any) -> None:
    folder, make_read_only = small_disk
    with pytest.raises(DiskFull, match=f"^{folder}/a.txt: the disk is full, .* MB are free; make room"):
        write_atomically(str(folder / "a.txt"), "a" * 3_000_000)
    assert list(folder.iterdir()) == []

    def build() -> None:
        with build_once(str(folder / "made")) as work:
            for number in range(100):
                Image.effect_noise((200, 200), 90).save(Path(work, f"{number}.png"))

    with pytest.raises(DiskFull, match=f"^{folder}/made: the disk is full") as caught:
        build()
    assert str(caught.traceback[-1].path).endswith("files.py")  # not in Pillow: it is no bug
    assert list(folder.iterdir()) == []
    make_read_only()
    with pytest.raises(OSError, match="Read-only file system") as other:
        build()
    assert str(other.value.filename).startswith(f"{folder}/made")


@pytest.mark.parametrize("dataset", ["shapes_noise", "handwritten_digits"])
def test_a_disk_that_fills_while_data_are_drawn_is_one_line(
    small_disk: Any, run_train: Any, short_run: list[object], dataset: str
) -> None:
    folder, _ = small_disk
    (folder / "filler").write_bytes(bytes(1_500_000))
    arguments = list(short_run)
    arguments[arguments.index("--root") + 1] = folder
    arguments[arguments.index("--dataset-config-file") + 1] = f"configs/datasets/{dataset}.yaml"
    ended = run_train(*arguments)
    last = ended.err.splitlines()[-1]  # behind what was left of a progress bar
    assert (ended.code, last[:7], "Traceback" in ended.err) == (2, "error: ", False)
    assert f"{folder / dataset}: the disk is full" in last
    assert [path.name for path in folder.iterdir()] == ["filler"]


def test_a_draw_that_does_not_fit_on_the_disk_is_made_all_the_same(
    small_disk: Any, capsys: pytest.CaptureFixture
) -> None:
    folder, _ = small_disk
    with contextlib.suppress(OSError):
        (folder / "filler").write_bytes(bytes(3_000_000))
    few = few_shot(make_split(), 2, 1, str(folder))
    assert draw_hash(few) == draw_hash(draw_images(make_split(), 2, 1))
    out = capsys.readouterr().out
    assert out.startswith(f"Few-shot draw: made, but not kept ({folder}/shot_2-seed_1.json: the disk is full")
    assert out.count("\n") == 1


def test_litter_is_what_is_hidden_or_left_by_other_programs() -> None:
    litter = [".DS_Store", "._a.jpg", "__MACOSX", "@eaDir", "Thumbs.db", "lost+found"]
    assert [is_litter(name) for name in [*litter, "cat", "a.jpg"]] == [True] * 6 + [False] * 2


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
