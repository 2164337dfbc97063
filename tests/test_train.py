"""train.py as a user meets it: what it leaves, what it says of wrong input, how it goes on after an interruption."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from runs.record import read_record
from tests import copies
from tests.conftest import ROOT
from tests.interruption import at_touch


def changed(arguments: list[object], **replacements: object) -> list[object]:
    """The arguments with the value behind each named option, or key, replaced."""
    arguments = list(arguments)
    for name, value in replacements.items():
        option = "--" + name.replace("_", "-")
        arguments[arguments.index(option) + 1] = value
    return arguments


def run_program(
    root: Path,
    arguments: list[object],
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    anew: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run train.py as a program; ``anew`` with a Python of its own that imports all of it."""
    words = [sys.executable, str(root / "train.py"), *map(str, arguments)]
    if anew:
        return subprocess.run(words, cwd=cwd or root, env=env, capture_output=True, text=True)
    return copies.run(words, cwd=cwd or root, env=env)


# What a run leaves


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
    ran = run_program(root, arguments, cwd=tmp_path, anew=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert read_record(tmp_path / "here")["metrics"]


# A second run into the same folder


def test_a_finished_run_is_not_repeated(run_train, short_run, tmp_path):
    run_train(*short_run)
    before = (tmp_path / "run" / "result.json").read_bytes()
    ended = run_train(*short_run)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Already finished: {tmp_path / 'run'} (accuracy ")
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_a_finished_run_can_be_repeated(run_train, short_run, tmp_path):
    run_train(*short_run)
    first = read_record(tmp_path / "run")
    ended = run_train(*short_run, "TRAIN.OVERWRITE", True)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [1/2]" in ended.out
    second = read_record(tmp_path / "run")
    assert second["metrics"] == first["metrics"]
    assert second["config"]["TRAIN"]["OVERWRITE"] is True


@pytest.mark.parametrize("other", [["OPTIM.LR", 0.5], ["DATASET.NUM_SHOTS", 2]])
def test_a_finished_run_of_other_settings_is_an_error(run_train, short_run, tmp_path, other):
    run_train(*short_run)
    ended = run_train(*short_run, *other)
    ended.assert_wrong_input(str(tmp_path / "run"), f"{other[0]}: ", f"-> {other[1]}", "TRAIN.OVERWRITE True")


def test_an_overwrite_that_cannot_begin_loses_nothing(run_train, short_run, tmp_path):
    run_train(*short_run)
    before = everything_in(tmp_path / "run")
    ended = run_train(*short_run, "TRAIN.OVERWRITE", True, "MODEL.BACKBONE.NAME", "ViT-B16")
    ended.assert_wrong_input("'ViT-B16'")
    assert everything_in(tmp_path / "run") == before


def test_an_interrupted_overwrite_goes_on_and_keeps_the_old_run_until_its_end(
    run_train, short_run, tmp_path, interrupted
):
    folder, again = tmp_path / "run", [*short_run, "TRAIN.OVERWRITE", True]
    run_train(*short_run)
    first, log = read_record(folder), (folder / "log.txt").read_text()
    interrupted(epoch=1)
    ended = run_train(*again)
    assert ended.code == 130
    assert not (folder / "result.json").exists()
    assert json.loads((folder / ".replaced" / "replaced.json").read_text()) == first
    assert list(folder.glob(".replaced/*/model.pth.tar-2"))
    assert (folder / ".replaced" / "log.txt").read_text() == log
    assert collect_nothing(folder)

    interrupted(never=True)
    ended = run_train(*again)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [1/2]" not in ended.out
    assert read_record(folder)["metrics"] == first["metrics"]
    assert not (folder / ".replaced").exists()


def test_an_interrupted_overwrite_can_be_begun_anew_with_other_settings(
    run_train, short_run, tmp_path, interrupted
):
    folder = tmp_path / "run"
    run_train(*short_run)
    first = read_record(folder)
    interrupted(epoch=1)
    assert run_train(*short_run, "TRAIN.OVERWRITE", True, "OPTIM.LR", 0.5).code == 130
    assert run_train(*short_run, "TRAIN.OVERWRITE", True).code == 130
    assert json.loads((folder / ".replaced" / "replaced.json").read_text()) == first
    interrupted(never=True)
    run_train(*short_run)  # it goes on without the setting, too
    assert read_record(folder)["config"]["OPTIM"]["LR"] == first["config"]["OPTIM"]["LR"]
    assert not (folder / ".replaced").exists()


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


def test_a_finished_run_is_the_same_however_its_data_folder_is_written(
    run_train, short_run, tmp_path, data_root
):
    run_train(*short_run)
    written = os.path.relpath(data_root, ROOT) + "/"
    ended = run_train(*changed(short_run, root=written), "DATALOADER.NUM_WORKERS", 1)
    assert ended.out.startswith("Already finished: ")


def test_what_a_finished_run_has_not_left_is_another_run(run_train, short_run, tmp_path):
    run_train(*short_run)
    run_train(*short_run, "TRAIN.CHECKPOINT_FREQ", 1).assert_wrong_input("TRAIN.CHECKPOINT_FREQ: 0 -> 1")


def test_everybody_may_read_the_record(run_train, short_run, tmp_path):
    before = os.umask(0o022)
    try:
        run_train(*short_run)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run" / "result.json").stat().st_mode) == 0o644


def test_a_folder_in_which_another_process_works(run_train, short_run, tmp_path):
    (tmp_path / "run").mkdir()
    with another_process_in(tmp_path / "run") as process:
        ended = run_train(*short_run)
        ended.assert_wrong_input(
            str(tmp_path / "run"), f"process {process} on {socket.gethostname()} since 20"
        )
    assert run_train(*short_run).code == 0


def test_a_folder_that_is_deleted_under_a_run(run_train, short_run, tmp_path, monkeypatch):
    def delete(self):
        if self.epoch == 1:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(TRAINER_REGISTRY.get("CoOp"), "before_epoch", delete, raising=False)
    run_train(*short_run).assert_wrong_input(str(tmp_path / "run"), "No such file or directory")
    assert not (tmp_path / "run").exists()


# A model to test


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


# Interruptions


def everything_in(folder: Path) -> dict[str, bytes]:
    """All files, but for tensorboard's, which are written when they like."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def collect_nothing(folder: Path) -> bool:
    """Whether a report finds no result there."""
    return not list(folder.rglob("result.json"))


@contextlib.contextmanager
def another_process_in(folder: Path):
    """A process that holds the folder; yields its number."""
    program = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); from runs.lock import only_one\n"
    program += "with only_one(pathlib.Path(sys.argv[2])): print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program, str(ROOT), str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def interrupted(monkeypatch):
    """`interrupted(epoch=1)`: from here on Ctrl-C comes in the first step of the second epoch; or never."""
    from trainers.base import PromptTrainer

    plain = PromptTrainer.forward_backward

    def interrupted(epoch: int = 0, never: bool = False) -> None:
        def forward_backward(self, batch):
            if not never and (self.epoch, self.batch_idx) == (epoch, 0):
                signal.raise_signal(signal.SIGINT)
            return plain(self, batch)

        monkeypatch.setattr(PromptTrainer, "forward_backward", forward_backward)

    return interrupted


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

    import torch

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


# Wrong input. `leaves` is whether the run may have begun.


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


def on_eurosat(arguments: list[object], root: Path) -> list[object]:
    return changed(arguments, root=root, dataset_config_file="configs/datasets/eurosat.yaml")


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


def test_an_infinite_loss_stops_the_run(run_train, short_run, tmp_path):
    ended = run_train(*short_run, "OPTIM.LR", 1e38, "OPTIM.WARMUP_EPOCH", 0)
    ended.assert_wrong_input("epoch 1", "1.0000e+38", "last good checkpoint")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_wrong_input_of_the_program_itself(root, short_run):
    ran = run_program(root, [*short_run, "OPTIM.LRR", 1])
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "error: command line: no config key OPTIM.LRR; the nearest is OPTIM.LR\n"


# CoOp's interface


def test_the_functions_that_scripts_import(short_run, monkeypatch, root):
    monkeypatch.chdir(root)
    args = train.make_parser().parse_args([str(word) for word in short_run])
    cfg = train.get_cfg_default()
    train.extend_cfg(cfg)
    train.reset_cfg(cfg, args)
    assert (cfg.TRAINER.NAME, cfg.SEED, cfg.DATASET.SUBSAMPLE_CLASSES) == ("CoOp", 1, "all")
    assert train.setup_cfg(args).is_frozen()


def test_later_settings_win(tmp_path, root, monkeypatch):
    monkeypatch.chdir(root)
    (tmp_path / "dataset.yaml").write_text("DATASET: {NAME: One}\nSEED: 2\nOPTIM: {LR: 0.2, NAME: adam}\n")
    (tmp_path / "method.yaml").write_text("SEED: 3\nOPTIM: {LR: 0.3, MAX_EPOCH: 3}\n")
    args = [
        "--dataset-config-file",
        str(tmp_path / "dataset.yaml"),
        "--config-file",
        str(tmp_path / "method.yaml"),
    ]
    cfg = train.setup_cfg(train.make_parser().parse_args([*args, "--seed", "4", "OPTIM.MAX_EPOCH", "5"]))
    assert (cfg.DATASET.NAME, cfg.OPTIM.NAME, cfg.OPTIM.LR) == ("One", "adam", 0.3)
    assert (cfg.SEED, cfg.OPTIM.MAX_EPOCH) == (4, 5)


# The original Dassl


def test_another_dassl_is_used_and_named(root, short_run, tmp_path):
    import shutil

    shutil.copytree(root / "dassl", tmp_path / "other" / "dassl")
    with (tmp_path / "other" / "dassl" / "__init__.py").open("a") as file:
        file.write('\n__version__ = "0.6.3-other"\n')
    ran = run_program(root, short_run, {**os.environ, "DASSL_PATH": str(tmp_path / "other")}, anew=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"Using the Dassl in {tmp_path / 'other'} (DASSL_PATH)" in ran.stdout
    assert read_record(tmp_path / "run")["versions"]["dassl"] == "0.6.3-other"


def test_a_dassl_path_without_dassl_is_one_line(root, short_run, tmp_path):
    ran = run_program(root, short_run, {**os.environ, "DASSL_PATH": str(tmp_path)}, anew=True)
    assert ran.returncode == 2
    assert ran.stderr == f"error: DASSL_PATH {tmp_path} holds no dassl package\n"


@pytest.fixture
def tf32():
    """Whether fp32 products are rounded: of matrices, of convolutions."""
    switches = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [switch.allow_tf32 for switch in switches]
    yield lambda: [switch.allow_tf32 for switch in switches]
    for switch, value in zip(switches, before):
        switch.allow_tf32 = value


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_is_off_unless_asked_for(run_train, short_run, tf32, wanted):
    assert run_train(*short_run, *(["TRAIN.TF32", True] if wanted else [])).code == 0
    assert tf32() == [wanted, wanted]
