import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.eurosat import EuroSAT
from datasets.fewshot import draw_hash, draw_images
from datasets.split import load_split, save_split
from tests.datasets.layouts import make_split
from tools.draw import main
from tools.preparing.data_sets import load


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Any:
    """Run the tool; returns the exit code and what it printed, errors last."""

    def run(*words: object) -> tuple[int, list[str]]:
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, [line.rstrip() for line in (printed.out + printed.err).splitlines()]

    return run


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    path = tmp_path / "split_zhou_Toy.json"
    save_split(make_split(), str(path))
    return path


def test_the_hash_is_the_runs(run: Any, tiny_eurosat: Path) -> None:
    code, lines = run("print", "EuroSAT", "--root", tiny_eurosat, "--shots", 1, 2, "--seed", 3)
    assert code == 0
    assert not (tiny_eurosat / "eurosat" / "split_fewshot").exists()
    for line, shots in zip(lines[1:], (1, 2), strict=True):
        data = load("eurosat", str(tiny_eurosat), "DATASET.NUM_SHOTS", shots, "SEED", 3)
        assert line.split() == [str(shots), "3", str(10 * shots), "10", data.few_shot_hash, "-"]
    kept = tiny_eurosat / "eurosat" / "split_fewshot" / "shot_1-seed_3.json"
    assert run("print", "eurosat", "--root", tiny_eurosat, "--shots", 1, "--seed", 3)[1][-1].endswith(
        f"  {kept}"
    )


def test_the_images_are_those_of_the_draw(run: Any, split_file: Path) -> None:
    _, lines = run("print", split_file, "--shots", 2, "--seed", 1, "--images")
    draw = draw_images(make_split(), 2, 1)
    expected = [f"  train  {i.label:>4}  {i.path}  ({i.classname})" for i in draw.train]
    expected += [f"  val    {i.label:>4}  {i.path}  ({i.classname})" for i in draw.val]
    assert lines[2:] == expected


def test_an_exported_draw_is_taken_elsewhere(run: Any, split_file: Path, tmp_path: Path) -> None:
    code, lines = run("export", split_file, "--shots", 1, 2, "--seed", 1, "--output", tmp_path / "out")
    assert code == 0
    assert [Path(line.split()[0]).name for line in lines] == ["shot_1-seed_1.json", "shot_2-seed_1.json"]
    exported = load_split(str(tmp_path / "out" / "shot_2-seed_1.json"))
    assert lines[1].split()[1] == draw_hash(exported) == draw_hash(draw_images(make_split(), 2, 1))
    shutil.copytree(tmp_path / "out", tmp_path / "split_fewshot")
    code, lines = run("compare", split_file, "--shots", 1, 2, "--seed", 1, "--with", tmp_path / "out")
    assert (code, [line.split(" (")[0] for line in lines]) == (
        0,
        [" 1 shots, seed 1: the same", " 2 shots, seed 1: the same"],
    )


def test_a_difference_is_counted(run: Any, split_file: Path, tmp_path: Path) -> None:
    draw = draw_images(make_split(), 2, 1)
    drawn = {item.path for item in draw.train}
    other = next(item for item in make_split().train if item.path not in drawn and item.label == 0)
    save_split(draw._replace(train=[other, *draw.train[1:]]), str(tmp_path / "other" / "shot_2-seed_1.json"))
    code, lines = run("compare", split_file, "--shots", 2, "--seed", 1, "--with", tmp_path / "other")
    assert code == 1
    assert lines[0].startswith(" 2 shots, seed 1: different: 9 of 10 train and 10 of 10 val images in common")


def test_draws_of_one_split_among_themselves(run: Any, split_file: Path) -> None:
    _, lines = run("compare", split_file, "--shots", 2, 4, "--seed", 1, 2)
    assert lines[1].split() == ["2/1", "2/2", "4/1", "4/2"]
    table = [[int(word) for word in line.split()[1:]] for line in lines[2:]]
    assert [table[i][i] for i in range(4)] == [10, 10, 20, 20]
    assert table == [list(row) for row in zip(*table, strict=True)]
    assert table[0][2] == table[1][3] == 10  # the draw with fewer shots is part of that with more


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["print", "{file}", "--shots", 0, "--seed", 1], "--shots must be 1 or more"),
        (["print", "eurosat", "--shots", 1, "--seed", 1], "--root is needed"),
        (["print", "none.json", "--shots", 1, "--seed", 1], "there is no split file none.json"),
        (["export", "{file}", "--shots", 1, "--seed", 1], "export needs --output"),
        (["compare", "{file}", "--shots", 1, "--seed", 1, "--with", "none"], "there is no folder none"),
        (
            ["compare", "{file}", "--shots", 1, "--seed", 1, "--with", "{folder}"],
            "has no draw shot_1-seed_1.json",
        ),
        (["print", "eurosatt", "--root", ".", "--shots", 1, "--seed", 1], "the nearest is eurosat"),
    ],
)
def test_a_users_mistake_is_one_line(run: Any, split_file: Path, words: list[object], message: str) -> None:
    code, lines = run(*(str(word).format(file=split_file, folder=split_file.parent) for word in words))
    assert code == 2
    assert len(lines) == 1
    assert message in lines[0]


def test_a_data_set_for_testing_only(run: Any, tiny_eurosat: Path) -> None:
    path = tiny_eurosat / "eurosat" / EuroSAT.split_file
    split = json.loads(path.read_text())
    path.write_text(json.dumps({"train": [], "val": [], "test": split["test"]}))
    code, lines = run("print", "eurosat", "--root", tiny_eurosat, "--shots", 1, "--seed", 1)
    assert (code, lines[1:]) == (2, ["error: eurosat is for testing only, nothing is drawn from it"])
    assert "is not the published split" in lines[0]


def test_draws_of_own_images_are_those_of_their_options(run: Any, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (4, 4)).save(tmp_path / "photos" / name / f"{number}.png")
    table = "path,class,split\n" + "".join(
        f"{name}/{i}.png,{name},{'test' if i < 5 else 'train'}\n" for name in "ab" for i in range(10)
    )
    (tmp_path / "photos" / "fold.csv").write_text(table)
    options = ["DATASET.IMAGE_FOLDER.CSV", "fold.csv"]
    words = ["print", "image_folder", "--root", tmp_path / "photos", "--shots", 2, "--seed", 1]
    _, lines = run(*words, "--opts", *options)
    data = load("image_folder", str(tmp_path / "photos"), "DATASET.NUM_SHOTS", 2, "SEED", 1, *options)
    assert lines[-1].split()[4] == data.few_shot_hash
    assert run(*words, "--opts", *options)[1][-1].endswith("photos/split_fewshot/fold/shot_2-seed_1.json")
    assert data.few_shot_hash not in run(*words)[1][-1]
