"""The benchmarks of training and evaluation run, on few classes of a small model."""

import json
import subprocess
import sys

import pytest

from runs import ROOT

SMALL = ["--methods", "CoOp", "--classes", "3", "--batch", "2", "--backbone", "ViT-S-32-alt"]


def run(program, *words):
    command = [sys.executable, str(ROOT / "benchmarks" / program), *SMALL, *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("plain_texts", [400, 2])
def test_a_step_is_measured_beside_the_plain_one(tmp_path, plain_texts):
    output = tmp_path / "step.json"
    words = ["--repeats", "1", "--plain-texts", str(plain_texts), "--output", str(output)]
    ran = run("step.py", *words)
    assert ran.returncode == 0, ran.stderr
    ours, theirs = json.loads(output.read_text())
    assert (ours["plain"], theirs["plain"]) == (False, True)
    assert theirs["sum_of_parts"] == (plain_texts == 2)
    assert ours["operations"] == theirs["operations"] > 0
    assert ours["floor_seconds"] == pytest.approx(ours["operations"] / ours["matrix_rate"])
    assert ours["parts"].keys() == {"image", "text", "transport", "optimiser"}
    assert ours["parts"]["transport"] == 0 < ours["parts"]["text"]
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    before = output.read_text()
    again = run("step.py", *words).stdout  # nothing is measured again
    assert (
        ran.stdout
        == f"CoOp, 3 classes: {ours['seconds']:.3f} s\nCoOp, 3 classes plain: {theirs['seconds']:.3f} s\n{again}"
    )
    assert run("step.py", "--show", "--output", str(output)).stdout == again
    assert output.read_text() == before


def test_an_evaluation_is_measured_beside_the_plain_one(tmp_path):
    output = tmp_path / "evaluate.json"
    ran = run("evaluate.py", "--images", "5", "--output", str(output))
    assert ran.returncode == 0, ran.stderr
    theirs, ours = json.loads(output.read_text())
    assert (ours["plain"], theirs["plain"]) == (False, True)
    assert theirs["seconds"] == pytest.approx(3 * theirs["first_seconds"])
    assert ours["seconds"] == pytest.approx(ours["first_seconds"] + 2 * ours["later_seconds"])
