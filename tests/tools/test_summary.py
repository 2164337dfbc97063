import sys

import numpy as np
import pytest
from PIL import Image

from tools import summary
from tools.cli import clean_errors
from tools.record import SCHEMA, write_record


@pytest.fixture
def runs(tmp_path):
    """Records of three runs, one of them not tested."""
    tested = [("Shapes", "ZeroshotCLIP", 40.04), ("Digits", "CoOp", 75.0), ("Shapes", "MMTPA", 81.26)]
    for number, (dataset, trainer, accuracy) in enumerate([*tested, ("Shapes", "CoOp", None)]):
        record = {
            "schema": SCHEMA,
            "kind": "train",
            "trainer": trainer,
            "dataset": dataset,
            "backbone": "mini",
            "shots": 16,
            "seed": 1,
            "config": {},
            "metrics": accuracy and {"accuracy": accuracy},
            "trainable_parameters": 2048,
            "peak_memory": {"bytes": 3 * 2**30, "of": "process"},
            "time": {"started": f"2026-01-01T00:00:0{number}+00:00", "setup_seconds": 2, "run_seconds": 60.4},
        }
        (tmp_path / str(number)).mkdir()
        write_record(record, tmp_path / str(number))
    return tmp_path


def run_summary(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["summary.py", str(folder)])
    with clean_errors():
        summary.main()


def test_the_table_has_a_row_for_each_tested_run(runs, monkeypatch, capsys):
    run_summary(runs, monkeypatch)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    row = ["16", "1", "40.0", "%", "2,048", "62", "3,072"]
    assert ["ZeroshotCLIP", *row] in lines
    assert ["MMTPA", "16", "1", "81.3", *row[3:]] in lines
    assert lines.index(["Digits"]) < lines.index(["Shapes"])
    assert len([line for line in lines if line[:1] == ["CoOp"]]) == 1


def test_figures_of_the_toy_model_are_called_that(runs, monkeypatch, capsys):
    run_summary(runs, monkeypatch)
    assert "bundled toy model" in capsys.readouterr().out


def test_the_plot_shows_bars(runs, monkeypatch):
    run_summary(runs, monkeypatch)
    pixels = np.asarray(Image.open(runs / "accuracy.png").convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    assert len(pixels) * 0.02 < counts[(colours.max(1) - colours.min(1)) > 60].max() < len(pixels) * 0.5


def test_a_folder_without_runs_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run_summary(tmp_path, monkeypatch)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: no result.json of a finished run under {tmp_path}\n"
