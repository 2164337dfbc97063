"""What a run of train.py leaves."""

import os
import stat

import pytest

from runs.record import read_record
from tests.train.running import changed, run_program


def test_a_run_leaves_log_checkpoint_and_record(run_train, short_run, tmp_path):
    ended = run_train(*short_run, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
    assert (ended.code, ended.err) == (0, "")
    folder = tmp_path / "run"
    assert "=> result" in (folder / "log.txt").read_text()
    assert list(folder.glob("*/model.pth.tar-2"))

    record = read_record(folder)
    metrics = record["metrics"]
    assert (
        f"* accuracy: {metrics['accuracy']:.1f}%" in ended.out
        or f"* accuracy: {metrics['accuracy']:.2f}%" in ended.out
    )
    assert metrics["accuracy"] + metrics["error_rate"] == pytest.approx(100)
    assert sum(c["images"] for c in metrics["per_class"]) == metrics["images"] > 0
    assert [c["class"] for c in metrics["per_class"]][:3] == ["zero", "one", "two"]
    assert (record["kind"], record["trainer"], record["dataset"]) == ("train", "CoOp", "HandwrittenDigits")
    assert (record["seed"], record["shots"], record["config"]["OPTIM"]["MAX_EPOCH"]) == (1, 1, 2)
    assert os.path.isabs(record["config"]["DATASET"]["ROOT"])
    assert record["backbone_hash"] == record["inputs"]["backbone weights"]
    assert record["few_shot_hash"]
    assert record["trainable_parameters"] == record["config"]["TRAINER"]["COOP"]["N_CTX"] * 128
    assert record["peak_memory"]["bytes"] > 2**26
    assert record["versions"]["torch"]
    assert record["time"]["run_seconds"] > record["time"]["step_seconds"] > 0


def test_the_checkpoint_can_be_tested_alone(run_train, short_run, tmp_path):
    run_train(*short_run)
    evaluation = changed(short_run, output_dir=tmp_path / "eval")
    ended = run_train("--eval-only", "--model-dir", tmp_path / "run", "--load-epoch", 2, *evaluation)
    assert (ended.code, ended.err) == (0, "")
    record = read_record(tmp_path / "eval")
    assert (record["kind"], record["load_epoch"]) == ("eval", 2)
    assert record["metrics"] == read_record(tmp_path / "run")["metrics"]


def test_no_train_builds_and_leaves_no_record(run_train, short_run, tmp_path):
    assert run_train("--no-train", *short_run).code == 0
    assert not (tmp_path / "run" / "result.json").exists()


def test_it_runs_from_another_folder(root, short_run, tmp_path):
    arguments = [root / word if str(word).startswith("configs/") else word for word in short_run]
    arguments = changed(arguments, output_dir="here")
    ran = run_program(root, arguments, cwd=tmp_path, apart=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert read_record(tmp_path / "here")["metrics"]


def test_everybody_may_read_the_record(run_train, short_run, tmp_path):
    before = os.umask(0o022)
    try:
        run_train(*short_run)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run" / "result.json").stat().st_mode) == 0o644
