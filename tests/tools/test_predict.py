import csv
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from runs.class_list import class_names
from runs.trained import load_run
from tests.conftest import Ended
from tools.predict import as_line, main


@pytest.fixture
def predict(capsys, monkeypatch):
    """Run the command in this process: predict(RUN, IMAGE, ..., stdin="paths")."""

    def run(*words: object, stdin: str = "") -> Ended:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = 0
        try:
            main([*map(str, words), "--device", "cpu"])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def run(finished) -> str:
    return finished("CoOp").cfg.OUTPUT_DIR


@pytest.fixture
def pictures(finished, tmp_path) -> list[Path]:
    """Three digits, one of them in a subfolder, in a folder of their own."""
    batch = next(iter(finished("CoOp").test_loader))
    paths = [tmp_path / "pictures" / name for name in ("a.png", "b.PNG", "more/c.png")]
    for path, source in zip(paths, batch["impath"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(source).read_bytes())
    return paths


def test_a_table_and_both_files_say_the_same(predict, run, pictures, tmp_path):
    expected = load_run(run, device="cpu").predict(pictures, k=2)
    folder = pictures[0].parent
    (folder / "notes.txt").write_text("no image")

    ended = predict(run, folder, "--top", 2)
    width = max(len(str(path)) for path in pictures)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        as_line((str(path), *best), width, 5) for path, best in zip(pictures, expected)
    ]

    files = tmp_path / "out.csv", tmp_path / "out.jsonl"
    ended = predict(run, folder, "--top", 2, "--csv", files[0], "--jsonl", files[1], "--batch-size", 3)
    assert (ended.code, ended.out) == (0, f"3 images classified: {files[0]}, {files[1]}\n")
    table = list(csv.DictReader(files[0].open()))
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    for path, best, row, line in zip(pictures, expected, table, lines, strict=True):
        assert line == {"image": str(path), "classes": best.labels, "probabilities": best.probabilities}
        assert row["image"] == str(path)
        assert [row["class_1"], row["class_2"]] == best.labels
        assert [float(row["probability_1"]), float(row["probability_2"])] == best.probabilities


def test_images_that_cannot_be_read_are_named_and_the_rest_goes_on(predict, run, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:40])
    paths = [tmp_path / "broken.png", pictures[0], tmp_path / "none.png", pictures[1]]
    ended = predict(run, *paths, "--batch-size", 1)
    assert ended.code == 1
    assert [line.split()[0] for line in ended.out.splitlines()] == [str(pictures[0]), str(pictures[1])]
    lines = [line for line in ended.err.splitlines() if "it/s" not in line]
    assert sum("broken.png" in line for line in lines) == sum("none.png" in line for line in lines) == 1
    assert lines[-1] == "2 of 4 images cannot be read"


def test_paths_from_standard_input_and_other_classes(predict, run, pictures, tmp_path):
    (tmp_path / "names.txt").write_text("seven\n\neight\n")
    for classes in ("seven,eight", tmp_path / "names.txt"):
        ended = predict(run, "-", "--classes", classes, stdin=f"{pictures[0]}\n{pictures[2]}\n")
        assert ended.code == 0
        lines = [line.split() for line in ended.out.splitlines()]
        assert [line[0] for line in lines] == [str(pictures[0]), str(pictures[2])]
        assert all({line[2], line[4]} == {"seven", "eight"} for line in lines)


def test_names_in_a_file_may_have_commas(tmp_path):
    (tmp_path / "names").write_text("\ufeffbread, white\nrye\n", encoding="utf-8")
    assert class_names(str(tmp_path / "names")) == ["bread, white", "rye"]


def test_what_exists_is_replaced_by_force_alone(predict, run, pictures, tmp_path):
    file = tmp_path / "out.csv"
    file.write_text("mine")
    predict(run, pictures[0], "--csv", file).assert_wrong_input(f"{file} exists already: --force")
    assert file.read_text() == "mine"
    assert predict(run, pictures[0], "--csv", file, "--force").code == 0
    assert file.read_text().startswith("image,class_1")
    assert not list(tmp_path.glob(".*"))


def test_huge_images_are_read_and_larger_ones_named(predict, run, tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "larger.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    ended = predict(run, tmp_path / "large.png", tmp_path / "larger.png")
    assert (ended.code, len(ended.out.splitlines())) == (1, 1)
    assert "larger.png" in ended.err
    assert "Warning" not in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "x.png"], "there is no folder nowhere"),
        (["RUN", "-"], "standard input names no images"),
        (["RUN", "EMPTY"], "there are no images in"),
        (["RUN", "x.png", "--top", 0], "1 or more, is needed"),
        (["RUN", "x.png", "--batch-size", -1], "1 or more, is needed"),
        (["RUN", "x.png", "--csv", "no/such/folder.csv"], "no/such/folder.csv cannot be written"),
        (["RUN", "x.png", "--classes", "names.txt"], "there is no file names.txt"),
        (["RUN", "x.png", "--classes", "a,,b"], "none may be empty"),
    ],
)
def test_wrong_arguments_are_one_line(words, said, predict, run, tmp_path):
    (tmp_path / "empty").mkdir()
    named = {"RUN": run, "EMPTY": tmp_path / "empty"}
    predict(*(named.get(word, word) for word in words)).assert_wrong_input(said)
