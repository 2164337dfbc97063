"""The model that train.py is told to test."""

import shutil

import pytest

from runs.record import read_record
from tests.train.running import changed, everything_in


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_model_that_is_tested_is_never_removed(run_train, short_run, tmp_path, overwrite):
    run_train(*short_run)
    before = everything_in(tmp_path / "run")
    ended = run_train(
        "--eval-only", "--model-dir", tmp_path / "run", *short_run, "TRAIN.OVERWRITE", overwrite
    )
    ended.assert_wrong_input(str(tmp_path / "run"), "the run whose model is tested", f"{tmp_path}/run_eval")
    assert everything_in(tmp_path / "run") == before


def test_a_repeated_evaluation_leaves_checkpoints_alone(run_train, short_run, tmp_path):
    """As of a folder into which somebody has put a release's checkpoint."""
    run_train(*short_run)
    shutil.copytree(
        next((tmp_path / "run").glob("*/model.pth.tar-2")).parent, tmp_path / "got" / "prompt_learner"
    )
    evaluation = [
        "--eval-only",
        "--model-dir",
        tmp_path / "got",
        *changed(short_run, output_dir=tmp_path / "got"),
    ]
    assert run_train(*evaluation).code == 0
    assert run_train(*evaluation, "TRAIN.OVERWRITE", True).code == 0
    assert (tmp_path / "got" / "prompt_learner" / "model.pth.tar-2").exists()
    assert read_record(tmp_path / "got")["kind"] == "eval"
    assert not (tmp_path / "got" / ".replaced").exists()


@pytest.mark.parametrize("given", ["prompt_learner", "prompt_learner/model.pth.tar-2"])
def test_a_checkpoint_instead_of_its_run(run_train, short_run, tmp_path, given):
    run_train(*short_run)
    (tmp_path / "run" / "prompt_learner" / "model.pth.tar-old2").write_text("")  # somebody's own
    evaluation = ["--eval-only", "--model-dir", tmp_path / "run" / given]
    ended = run_train(*evaluation, *changed(short_run, output_dir=tmp_path / "eval"))
    assert (ended.code, ended.err) == (0, "")
    record = read_record(tmp_path / "eval")
    assert record["model_dir"] == str(tmp_path / "run")
    assert record["load_epoch"] == (2 if "pth" in given else None)


def test_a_learner_without_a_model_is_not_tested(run_train, short_run, tmp_path):
    run_train("--eval-only", *short_run).assert_wrong_input("CoOp, which learns", "--model-dir")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["--model-dir", "run"], ["--load-epoch", 1]])
def test_a_model_to_test_is_not_ignored_in_training(run_train, short_run, tmp_path, words):
    run_train(*words, *short_run).assert_wrong_input(words[0], "--eval-only", "MODEL.INIT_WEIGHTS")
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_tested_with_other_settings_of_its_method_is_warned_of(
    run_train, short_run, tmp_path
):
    run_train(*short_run)
    test = ["--eval-only", "--model-dir", tmp_path / "run"]
    test += changed(short_run, output_dir=tmp_path / "end")
    assert "Warning" not in run_train(*test).out
    ended = run_train(
        *changed(test, output_dir=tmp_path / "front"), "TRAINER.COOP.CLASS_TOKEN_POSITION", "front"
    )
    assert (
        f"Warning: the model in {tmp_path / 'run'} was trained with other settings "
        "(TRAINER.COOP.CLASS_TOKEN_POSITION: end -> front)" in ended.out
    )


def test_what_learns_nothing_and_what_is_loaded_is_tested(run_train, short_run, tmp_path):
    run_train(*short_run)
    evaluation = ["--eval-only", *changed(short_run, output_dir=tmp_path / "eval")]
    [checkpoint] = (tmp_path / "run").glob("*/model.pth.tar-2")
    assert run_train(*evaluation, "MODEL.INIT_WEIGHTS", checkpoint).code == 0
    zeroshot = changed(
        short_run,
        output_dir=tmp_path / "zero",
        trainer="ZeroshotCLIP",
        config_file="configs/trainers/ZeroshotCLIP/mini.yaml",
    )
    assert run_train("--eval-only", *zeroshot).code == 0


def test_a_checkpoint_of_another_trainer_names_both(run_train, short_run, tmp_path):
    run_train(*short_run)
    evaluation = changed(
        short_run,
        output_dir=tmp_path / "eval",
        trainer="MMTPA",
        config_file="configs/trainers/MMTPA/mini.yaml",
    )
    ended = run_train("--eval-only", "--model-dir", tmp_path / "run", *evaluation)
    ended.assert_wrong_input("written by CoOp", "MMTPA")
    assert not (tmp_path / "eval").exists()


def test_a_checkpoint_of_other_classes_names_both(run_train, short_run, tiny_eurosat, tmp_path):
    run_train(*short_run, "TRAINER.COOP.CSC", True, "DATASET.SUBSAMPLE_CLASSES", "base")
    evaluation = changed(short_run, output_dir=tmp_path / "eval")
    ended = run_train("--eval-only", "--model-dir", tmp_path / "run", *evaluation, "TRAINER.COOP.CSC", True)
    ended.assert_wrong_input("5", "10")
    assert not (tmp_path / "eval").exists()
