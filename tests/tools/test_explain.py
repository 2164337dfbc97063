"""The program: what it writes, what it says, and what it refuses."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests import copies
from tests.conftest import ROOT
from tests.tools.browser import Page
from tests.trainers.harness import METHODS
from tools.explain import main


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def run_folder(finished, method):
    return finished(method).cfg.OUTPUT_DIR


def explain(*words):
    main([str(word) for word in words])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page(method, finished, picture, tmp_path, capsys):
    folder = tmp_path / "out"
    explain(run_folder(finished, method), picture, "--output", folder, "--top", 2)
    text = (folder / "explain.html").read_text()
    assert (Page(text).loads, Page(text).open) == ([], [])
    assert f"{method} on HandwrittenDigits" in text
    assert [path.name for path in folder.iterdir()] == ["explain.html"]
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{picture}: ")
    assert out[-1] == f"{folder}/explain.html"


def test_it_says_what_predicting_says(finished, picture, tmp_path, capsys):
    from runs.trained import load_run

    folder = run_folder(finished, "MMTPA")
    explain(folder, picture, "--output", tmp_path / "out")
    run = load_run(folder, device="cpu")
    [best] = run.predict([picture], k=1)
    assert capsys.readouterr().out.startswith(f"{picture}: {best.labels[0]} ({best.probabilities[0]:.2%})")


def test_figures_stand_beside_the_page(finished, picture, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "a picture.jpg"
    Image.open(picture).save(other)
    folder = tmp_path / "out"
    explain(run_folder(finished, "MMTPA"), picture, other, "--output", folder, "--png", "--top", 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a picture-2.png",
        "a picture.png",
        "explain.html",
    ]
    with Image.open(folder / "a picture-2.png") as drawn:
        assert drawn.width > drawn.height > 100
    assert (folder / "explain.html").read_text().count('class="image mass"') == 2


def test_words_are_a_table(finished, capsys):
    explain(run_folder(finished, "CoOp"), "--words")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["token", "norm"]
    assert lines[1].split()[0] == "v1"


def test_a_large_picture_is_shown_small(finished, tmp_path):
    """In a process of its own, whose standard error must stay empty: Pillow warns of such pictures."""
    path = tmp_path / "large.png"
    Image.new("RGB", (10_000, 10_000), (200, 30, 30)).save(path, compress_level=1)
    command = [sys.executable, ROOT / "tools/explain.py", run_folder(finished, "MMTPA"), path]
    ran = copies.run([*command, "--output", tmp_path / "out"], cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "out" / "explain.html").stat().st_size < 500_000


def test_an_earlier_page_is_kept_unless_one_asks(finished, picture, tmp_path, capsys):
    run, folder = run_folder(finished, "MaPLe"), tmp_path / "out"
    explain(run, picture, "--output", folder)
    (folder / "explain.html").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        explain(run, picture, "--output", folder)
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == f"error: {folder}/explain.html exists: --force overwrites it, --output names another folder\n"
    )
    assert (folder / "explain.html").read_text() == "mine"
    explain(run, picture, "--output", folder, "--force")
    assert (folder / "explain.html").read_text() != "mine"
    assert (folder / "notes.txt").read_text() == "mine"


def broken(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n nothing of the kind")
    return path


def tiny(path):
    Image.new("RGB", (1, 1)).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "{good}", "{broken}"], "Cannot read the image"),
        (["{run}", "{good}", "{tiny}"], "has 1 x 1 pixels: at least 2 x 2 are needed"),
        (["{run}", "{good}", "{tmp}/gone.png"], "No image file at"),
        (["{tmp}/gone", "{good}"], "there is no folder {tmp}/gone"),
        (["{tmp}", "{good}"], "is not the folder of a run"),
        (["{unfinished}", "{good}"], "holds an unfinished run"),
        (["{run}"], "an IMAGE or --words is needed"),
        (["{run}", "{good}", "--top", "0"], "--top 0 must be 1 or more"),
        (["{run}", "{good}", "--output", "{good}"], "folder {good} cannot be written"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(words, said, finished, picture, tmp_path, capsys):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "log.txt").touch()
    places = {
        "run": run_folder(finished, "MaPLe"),
        "good": str(picture),
        "broken": str(broken(tmp_path / "broken.png")),
        "tiny": str(tiny(tmp_path / "tiny.png")),
        "unfinished": str(unfinished),
        "tmp": str(tmp_path),
    }
    output = [] if "--output" in words else ["--output", tmp_path / "out"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        explain(*(word.format(**places) for word in words), *output)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: ")
    assert said.format(**places) in error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_words_of_a_method_without_any(finished, capsys):
    with pytest.raises(SystemExit) as ended:
        explain(run_folder(finished, "VPT"), "--words")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: VPT learns no context tokens")


def test_a_page_that_fails_leaves_the_earlier_one(finished, picture, tmp_path, monkeypatch, capsys):
    run, folder = run_folder(finished, "MaPLe"), tmp_path / "out"
    explain(run, picture, "--output", folder)
    before = (folder / "explain.html").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tools.explain.figure", full)
    with pytest.raises(SystemExit) as ended:
        explain(run, picture, "--output", folder, "--png", "--force")
    assert ended.value.code == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["explain.html"]
    assert (folder / "explain.html").read_bytes() == before
