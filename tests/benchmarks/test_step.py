"""The benchmarks of training and evaluation run, on few classes of a small model."""

import json
import sys

import pytest

from benchmarks import step
from benchmarks.cell import Cell
from benchmarks.clock import Clock
from runs import ROOT
from tests import copies

SMALL = ["--methods", "CoOp", "--classes", "3", "--batch", "2", "--backbone", "ViT-S-32-alt"]


def run(program, *words):
    command = [sys.executable, str(ROOT / "benchmarks" / program), *SMALL, *words]
    return copies.run(command)


@pytest.fixture
def _small_matrices(monkeypatch):
    """The rate of products decides no test, and its matrices take most of their time."""
    monkeypatch.setattr(Clock, "matrix_size", {"cpu": 128})


def cell(**options):
    about = {"method": "CoOp", "classes": 3, "batch": 2, "backbone": "ViT-S-32-alt", "device": "cpu"}
    return Cell(**{**about, "plain": False, "repeats": 1, "precision": "fp32", "plain_texts": 400, **options})


@pytest.mark.usefixtures("_small_matrices")
def test_a_step_is_measured_beside_the_plain_one_and_not_again(tmp_path, capsys):
    output = tmp_path / "step.json"
    measured = [step.measure(cell(plain=plain)) for plain in (False, True)]
    output.write_text(json.dumps(measured))
    ours, theirs = measured
    assert (ours["plain"], theirs["plain"]) == (False, True)
    assert not theirs["sum_of_parts"]
    assert ours["operations"] == theirs["operations"] > 0
    assert ours["floor_seconds"] == pytest.approx(ours["operations"] / ours["matrix_rate"])
    assert ours["parts"].keys() == {"image", "text", "transport", "optimiser"}
    assert ours["parts"]["transport"] == 0 < ours["parts"]["text"]

    before = output.read_text()
    tables = []
    for words in (["--repeats", "1"], ["--show"]):  # of both, nothing is measured again
        step.main([*SMALL, *words, "--output", str(output)])
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    assert f"{ours['seconds']:.3f}" in tables[0]
    assert f"{theirs['seconds']:.3f}" in tables[0]
    assert output.read_text() == before
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("_small_matrices")
def test_many_texts_go_through_the_plain_tower_in_groups():
    theirs = step.measure(cell(plain=True, plain_texts=2))
    assert theirs["sum_of_parts"]
    assert theirs["seconds"] == pytest.approx(sum(theirs["parts"].values()))


@pytest.mark.usefixtures("_small_matrices")
@pytest.mark.parametrize("method", ["MMTPA", "PLOT"])
def test_the_transport_is_noted_and_made_again(method):
    measured = step.measure(cell(method=method))
    assert measured["parts"]["transport"] > 0
    alone = step.measure(cell(method="CoOp"))
    assert measured["operations"] > alone["operations"]


def test_an_evaluation_is_measured_beside_the_plain_one(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.cell.subprocess", copies.IN_PLACE)  # each cell is a process
    output = tmp_path / "evaluate.json"
    ran = run("evaluate.py", "--images", "5", "--output", str(output))
    assert ran.returncode == 0, ran.stderr
    theirs, ours = json.loads(output.read_text())
    assert (ours["plain"], theirs["plain"]) == (False, True)
    assert theirs["seconds"] == pytest.approx(3 * theirs["first_seconds"])
    assert ours["seconds"] == pytest.approx(ours["first_seconds"] + 2 * ours["later_seconds"])
