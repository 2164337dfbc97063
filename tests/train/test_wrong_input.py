"""What train.py says of wrong input: one line."""

import pytest

from runs.record import read_record
from tests.train.running import changed, on_eurosat, run_program

WRONG_SETTINGS = {
    "unknown key": (["TRAINER.COOP.NCTX", 4], ["TRAINER.COOP.NCTX", "the nearest is TRAINER.COOP.N_CTX"]),
    "wrong type": (["OPTIM.LR", "fast"], ["OPTIM.LR must be of type float", "'fast'"]),
    "unknown trainer": (["TRAINER.NAME", "CoOps"], ["'CoOps'", "CoOp, ", "MMTPA", "ZeroshotCLIP"]),
    "unknown data set": (["DATASET.NAME", "Digits"], ["'Digits'", "EuroSAT", "HandwrittenDigits", "Shapes"]),
    "unknown backbone": (["MODEL.BACKBONE.NAME", "ViT-B16"], ["'ViT-B16'", "ViT-B/16", "RN50", "mini"]),
    "no weights file": (["MODEL.BACKBONE.NAME", "nowhere/clip.pt"], ["nowhere/clip.pt"]),
    "too many context tokens": (["TRAINER.COOP.N_CTX", 90], ["zero", "77"]),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_a_wrong_setting_is_one_line(run_train, short_run, tmp_path, case):
    setting, words = WRONG_SETTINGS[case]
    run_train(*short_run, *setting).assert_wrong_input(*words)
    assert not (tmp_path / "run").exists()


def test_a_wrong_key_in_a_file_names_the_file(run_train, short_run, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("OPTIM:\n  MAX_EPOCHS: 3\n")
    ended = run_train(*changed(short_run, config_file=config))
    ended.assert_wrong_input(str(config), "OPTIM.MAX_EPOCHS", "the nearest is OPTIM.MAX_EPOCH")
    assert not (tmp_path / "run").exists()


def test_a_missing_config_names_the_nearest(run_train, short_run, tmp_path):
    ended = run_train(*changed(short_run, dataset_config_file="configs/datasets/digits.yaml"))
    ended.assert_wrong_input("configs/datasets/digits.yaml", "handwritten_digits.yaml")
    assert len(ended.err) < 300
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--sed", "1"], "--sed"), (["--seed", "x"], "--seed"), (["--output-dir"], "--output-dir")],
)
def test_a_wrong_argument_is_one_line(run_train, words, named):
    run_train(*words).assert_wrong_input(named)


def test_an_output_folder_that_cannot_be_written(run_train, short_run, tmp_path):
    (tmp_path / "file").write_text("")
    ended = run_train(*changed(short_run, output_dir=tmp_path / "file" / "run"))
    ended.assert_wrong_input(str(tmp_path / "file" / "run"))


def test_a_folder_to_resume_from_that_is_missing(run_train, short_run, tmp_path):
    run_train("--resume", tmp_path / "gone", *short_run).assert_wrong_input(str(tmp_path / "gone"))
    assert not (tmp_path / "run").exists()


def test_a_record_that_is_cut_off(run_train, short_run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text('{"schema": 1, "metr')
    run_train(*short_run).assert_wrong_input(str(tmp_path / "run" / "result.json"), "cut off")


def test_a_missing_data_folder_lists_what_is_there(run_train, short_run, tmp_path):
    (tmp_path / "data" / "euro_sat").mkdir(parents=True)
    run_train(*on_eurosat(short_run, tmp_path / "data")).assert_wrong_input("eurosat", "euro_sat")
    assert not (tmp_path / "run").exists()


def test_a_missing_image_is_named(run_train, short_run, tiny_eurosat, tmp_path):
    (tiny_eurosat / "eurosat" / "2750" / "River" / "River_4.jpg").unlink()
    run_train(*on_eurosat(short_run, tiny_eurosat)).assert_wrong_input("River_4.jpg")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_is_named(run_train, short_run, tiny_eurosat, workers):
    image = tiny_eurosat / "eurosat" / "2750" / "River" / "River_4.jpg"
    image.write_bytes(image.read_bytes()[:300])
    ended = run_train(*on_eurosat(short_run, tiny_eurosat), "DATALOADER.NUM_WORKERS", workers)
    ended.assert_wrong_input(str(image))


def test_fewer_images_than_shots_are_all_taken(run_train, short_run, tiny_eurosat, tmp_path):
    ended = run_train(*on_eurosat(short_run, tiny_eurosat), "DATASET.NUM_SHOTS", 16, "OPTIM.MAX_EPOCH", 1)
    assert ended.code == 0
    [warning] = [line for line in ended.out.splitlines() if "NUM_SHOTS" in line]
    assert warning.startswith(
        "Warning: DATASET.NUM_SHOTS is 16, 10 of 10 classes have fewer training images, of which all are taken: "
    )
    assert warning.endswith(" (3) and 5 more")
    assert read_record(tmp_path / "run")["metrics"]["images"] == 10


def test_a_class_name_longer_than_the_context_is_named(run_train, short_run, tiny_eurosat):
    split = tiny_eurosat / "eurosat" / "split_zhou_EuroSAT.json"
    split.write_text(split.read_text().replace("Pasture Land", "pasture " * 80))
    run_train(*on_eurosat(short_run, tiny_eurosat)).assert_wrong_input("pasture pasture", "77")


def test_an_infinite_loss_stops_the_run(run_train, short_run, tmp_path):
    ended = run_train(*short_run, "OPTIM.LR", 1e38, "OPTIM.WARMUP_EPOCH", 0)
    ended.assert_wrong_input("epoch 1", "1.0000e+38", "last good checkpoint")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_wrong_input_of_the_program_itself(root, short_run):
    ran = run_program(root, [*short_run, "OPTIM.LRR", 1])
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "error: command line: no config key OPTIM.LRR; the nearest is OPTIM.LR\n"
