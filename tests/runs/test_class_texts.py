"""A run is known by the user's texts of the classes, and used without their file."""

import json
from pathlib import Path

import pytest
import torch

from runs import unfinished
from runs.record import read_record
from runs.trained import load_run
from tests.trainers.harness import build, make_cfg

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXTS = {name: [f"the digit {name}"] for name in NAMES}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(TEXTS))
    return path


def words(data_root, folder, method, *settings):
    return [
        *("--root", data_root, "--output-dir", folder, "--seed", 1, "--trainer", method),
        *("--dataset-config-file", "configs/datasets/handwritten_digits.yaml"),
        *("--config-file", f"configs/trainers/{method}/mini.yaml"),
        *("DATALOADER.NUM_WORKERS", 0, "VERBOSE", False, *settings),
    ]


def test_a_run_keeps_its_texts_and_is_known_by_them(run_train, data_root, tmp_path, file, capsys):
    folder, given = tmp_path / "run", ["DATASET.CLASS_TEXTS", file, "DATASET.TEMPLATES", "a {}"]
    command = words(data_root, folder, "ZeroshotCLIP", *given)
    assert run_train(*command).code == 0
    assert json.loads((folder / "class_texts.json").read_text()) == TEXTS
    record = read_record(folder)
    assert record["config"]["DATASET"]["TEMPLATES"] == ["a {}"]
    assert "Already finished" in run_train(*command).out
    file.write_text(json.dumps(TEXTS, indent=4, sort_keys=True))
    assert "Already finished" in run_train(*command).out
    run_train(*words(data_root, folder, "ZeroshotCLIP")).assert_wrong_input("DATASET.CLASS_TEXTS: ")
    file.write_text(json.dumps(TEXTS | {"one": ["a line"]}))
    run_train(*command).assert_wrong_input("finished run with other settings (class texts: ")

    file.unlink()
    run = load_run(folder, device="cpu")
    assert run.model.written_texts.texts == TEXTS
    with pytest.raises(ValueError, match="has no texts of 'cat'"):
        load_run(folder, classes=["cat", "one"])

    from tools.export import main as export
    from tools.predict import main as predict

    export([str(folder), "--to", "hub", "--output", str(tmp_path / "hub")])
    assert torch.equal(load_run(tmp_path / "hub", device="cpu").model.texts, run.model.texts)
    image = next(path for path in Path(data_root).rglob("*.png"))
    capsys.readouterr()
    predict([str(folder), str(image)])
    assert str(image) in capsys.readouterr().out

    (folder / "class_texts.json").write_text(json.dumps(TEXTS | {"one": ["a line"]}))
    with pytest.raises(ValueError, match=r"class_texts\.json has other texts than .* was run with"):
        load_run(folder)
    (folder / "class_texts.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"was run with DATASET\.CLASS_TEXTS .*: it is not there, nor is"
    ):
        load_run(folder)


def test_where_they_only_guide_the_loss_nothing_of_them_is_needed_later(run_train, data_root, tmp_path, file):
    short = ["DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True]
    command = words(data_root, tmp_path / "run", "KgCoOp", *short, "DATASET.CLASS_TEXTS", file)
    assert run_train(*command).code == 0
    assert "class texts" in read_record(tmp_path / "run")["inputs"]
    file.unlink()
    (tmp_path / "run" / "class_texts.json").unlink()
    assert load_run(tmp_path / "run", classes=["cat", "dog"]).classnames == ["cat", "dog"]


def test_an_unfinished_run_does_not_go_on_with_other_texts(data_root, tmp_path, file):
    settings = ["DATASET.SUBSAMPLE_CLASSES", "base", "DATASET.CLASS_TEXTS", str(file)]
    folder = tmp_path / "run"
    folder.mkdir()
    unfinished.note(build(make_cfg("KgCoOp", data_root, folder, *settings)), folder)
    unfinished.check_inputs(folder, build(make_cfg("KgCoOp", data_root, folder, *settings)))
    file.write_text(json.dumps(TEXTS | {"one": ["a line"]}))
    other = build(make_cfg("KgCoOp", data_root, folder, *settings))
    with pytest.raises(ValueError, match="unfinished run with other weights or data \\(class texts: "):
        unfinished.check_inputs(folder, other)
