"""How train.py goes on after an interruption."""

import json
import signal
from pathlib import Path

import pytest
import torch

from runs.record import read_record
from tests.interruption import at_touch
from tests.train.running import changed, everything_in, on_eurosat, run_program


def test_ctrl_c_in_an_epoch_says_where_and_goes_on_there(run_train, short_run, tmp_path, interrupted):
    assert run_train(*changed(short_run, output_dir=tmp_path / "straight")).code == 0
    interrupted(epoch=1)
    ended = run_train(*short_run)
    assert ended.code == 130
    assert ended.err == (
        "interrupted: in epoch 2 of 2, batch 1 of 2; continue with the same command and "
        f"--resume {tmp_path / 'run'}\n"
    )
    interrupted(never=True)
    ended = run_train("--resume", tmp_path / "run")  # and nothing else
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [2/2] batch [1/2]" not in ended.out
    straight, resumed = (
        torch.load(next((tmp_path / name).glob("*/model.pth.tar-2")))["state_dict"]["context.ctx"]
        for name in ("straight", "run")
    )
    assert torch.equal(straight, resumed)
    record = read_record(tmp_path / "run")
    assert record["metrics"] == read_record(tmp_path / "straight")["metrics"]
    assert (record["seed"], record["config"]["OPTIM"]["MAX_EPOCH"]) == (1, 2)
    assert not (tmp_path / "run" / "run.json").exists()
    assert run_train("--resume", tmp_path / "run").out.startswith("Already finished: ")


def test_other_arguments_than_the_resumed_runs_are_an_error(run_train, short_run, tmp_path, interrupted):
    interrupted(epoch=1)
    run_train(*short_run)
    run_train("--resume", tmp_path / "run", "--seed", 2).assert_wrong_input("SEED: 1 -> 2")
    run_train("--resume", tmp_path / "run", "OPTIM.LR", 0.5).assert_wrong_input("OPTIM.LR: ", "-> 0.5")


@pytest.mark.parametrize("change", [["--seed", 2], ["--dataset-config-file", "configs/datasets/shapes.yaml"]])
def test_a_finished_run_is_not_resumed_as_another(run_train, short_run, tmp_path, change):
    run_train(*short_run)
    before = everything_in(tmp_path / "run")
    changes = {change[0].strip("-").replace("-", "_"): change[1], "output_dir": tmp_path / "other"}
    ended = run_train("--resume", tmp_path / "run", *changed(short_run, **changes))
    ended.assert_wrong_input(str(tmp_path / "run"), "holds a finished run with other settings")
    assert everything_in(tmp_path / "run") == before
    assert not (tmp_path / "other").exists()


def test_checkpoints_of_unknown_settings_make_no_record(run_train, short_run, tmp_path):
    run_train(*short_run)
    (tmp_path / "run" / "result.json").unlink()
    ended = run_train(*short_run)
    ended.assert_wrong_input(str(tmp_path / "run"), "with which settings")
    assert not (tmp_path / "run" / "result.json").exists()


def clip_file(path: Path, seed: int) -> Path:
    """A random CLIP as wide as the bundled model."""
    from safetensors.torch import save_file

    from tests.clip import tiny

    save_file(tiny.state_dict(layers=1, seed=seed), path)
    return path


def test_other_weights_in_the_same_file_do_not_continue_a_run(run_train, short_run, tmp_path, interrupted):
    weights = clip_file(tmp_path / "clip.safetensors", seed=0)
    arguments = [*short_run, "MODEL.BACKBONE.NAME", f"quickgelu:{weights}"]
    interrupted(epoch=1)
    assert run_train(*arguments).code == 130
    interrupted(never=True)
    clip_file(weights, seed=1)
    ended = run_train(*arguments)
    ended.assert_wrong_input(str(tmp_path / "run"), "other weights or data (backbone weights: ")
    clip_file(weights, seed=0)
    assert run_train(*arguments).code == 0


def test_another_draw_does_not_continue_a_run(run_train, short_run, tmp_path, tiny_eurosat, interrupted):
    arguments = on_eurosat(short_run, tiny_eurosat)
    interrupted(epoch=1)
    assert run_train(*arguments).code == 130
    [draw] = (tiny_eurosat / "eurosat" / "split_fewshot").glob("*.json")
    split = json.loads((tiny_eurosat / "eurosat" / "split_zhou_EuroSAT.json").read_text())
    drawn = json.loads(draw.read_text())
    [other] = [item for item in split["train"] if item[1] == 0 and item not in drawn["train"]][:1]
    drawn["train"] = [other if item[1] == 0 else item for item in drawn["train"]]
    draw.write_text(json.dumps(drawn))
    run_train(*arguments).assert_wrong_input("training images: ")


@pytest.mark.parametrize(
    ("signal_", "word", "code"), [("terminate", "terminated", 143), ("interrupt", "interrupted", 130)]
)
def test_a_stopped_run_saves_where_it_is_and_says_how_to_continue(
    root, short_run, tmp_path, signal_, word, code
):
    environment = at_touch(5, tmp_path / "run", f"{signal_} run", tmp_path / word, "resume.pth.tar")
    ran = run_program(root, [*short_run, "TRAIN.RESUME_INTERVAL", 0.0], environment)
    assert ran.returncode == code
    assert ran.stderr == (
        f"{word}: in epoch 2 of 2; continue with the same command and --resume {tmp_path / 'run'}\n"
    )
    assert torch.load(tmp_path / "run" / "resume.pth.tar")["epoch"] == 2
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("epoch", [1, 4])
def test_after_a_kill_resume_gives_the_same_result(root, run_train, short_run, tmp_path, epoch):
    long = [*short_run, "OPTIM.MAX_EPOCH", 5, "TRAIN.RESUME_INTERVAL", 0.0, "TRAIN.PRINT_FREQ", 1]
    assert run_train(*changed(long, output_dir=tmp_path / "straight")).code == 0

    # It is written before the first epoch, and after each; touched twice each time.
    environment = at_touch(2 * epoch + 1, tmp_path / "run", "kill run", tmp_path / "killed", "resume.pth.tar")
    ran = run_program(root, long, environment)
    assert ran.returncode == -signal.SIGKILL
    assert f"epoch [{epoch}/5]" in ran.stdout
    assert f"epoch [{epoch + 1}/5]" not in ran.stdout
    ended = run_train("--resume", tmp_path / "run", *long)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [5/5]" in ended.out
    if epoch > 1:
        assert "epoch [1/5]" not in ended.out

    straight, resumed = (
        torch.load(next((tmp_path / name).glob("*/model.pth.tar-5")))["state_dict"]
        for name in ("straight", "run")
    )
    for name, value in straight.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, resumed[name])
    assert read_record(tmp_path / "run")["metrics"] == read_record(tmp_path / "straight")["metrics"]


def test_an_unfinished_run_of_other_settings_is_an_error(root, run_train, short_run, tmp_path):
    folder = tmp_path / "run"
    environment = at_touch(3, folder, "kill run", tmp_path / "killed", "resume.pth.tar")
    assert run_program(root, short_run, environment).returncode == -signal.SIGKILL
    ended = run_train(*short_run, "OPTIM.LR", 0.5)
    ended.assert_wrong_input(str(folder), "OPTIM.LR: ", " -> 0.5", "another output folder")
    assert run_train(*short_run).code == 0
