"""The launcher on real runs of the bundled model: grids, failures, kills."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from tests import copies
from tests.interruption import at_touch
from tests.tools.outputs import leave
from tools import launch
from tools.launching.cell import Cell
from tools.protocols.base_to_new import all_runs, base_runs, new_runs

KILLS = int(os.environ.get("MMPROMPT_KILLS", "2"))  # how often to kill; more takes longer
# At which touch of its folder, at most, a run is killed. Beginning takes 12, each epoch two at least, so no
# start gets through more than TOUCHES / 2 epochs, and there is something left to kill each time.
TOUCHES = 30
EPOCHS = TOUCHES // 2 * KILLS + 1
# They learn something for each class.
OWN_CLASSES_ONLY = ("TaskRes", "TipAdapter", "TipAdapterF", "CLAP", "SOTGLP")
TINY = ["TRAIN.RESUME_INTERVAL", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", "5", "OPTIM.MAX_EPOCH"]


@pytest.fixture
def start(root, data_root, runs_are_copies):
    """Start the launcher on one shot of the bundled digits: `start(output, protocol, more arguments)`."""
    processes = []

    def start(
        output, *words, trainer="CoOp/mini", datasets=("handwritten_digits",), epochs=1, environment=None
    ):
        command = [sys.executable, root / "tools" / "launch.py", *words, "--trainers", trainer]
        command += ["--datasets", *datasets, "--seeds", 1, "--shots", 1, "--root", data_root]
        command += ["--output", output, "--gpus", "--jobs", 2, "--opts", *TINY, epochs]
        process = copies.start(
            command,
            cwd=output.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process, seconds=900):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def results(output):
    """What must not depend on interruptions: records without times and memory, and the learned weights."""
    found = {}
    for path in output.rglob("result.json"):
        record = json.loads(path.read_text())
        for key in ("time", "peak_memory", "hardware", "versions", "config", "model_dir", "model"):
            record.pop(key)
        weights = {
            f"{checkpoint.name} {name}": tensor.tolist()
            for checkpoint in path.parent.glob("*/model.pth.tar-*")
            for name, tensor in torch.load(checkpoint)["state_dict"].items()
            if isinstance(tensor, torch.Tensor)
        }
        assert bool(weights) == (record["kind"] == "train" and record["trainable_parameters"] > 0)
        found[str(path.parent.relative_to(output))] = (record, weights)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="where a run does not outlive its killed launcher")
def test_kills_at_random_moments_change_no_result(start, tmp_path):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    code, out, err = ended(start(quiet, "fewshot", epochs=EPOCHS))
    assert code == 0, out + err
    assert "All done (1 run)" in out

    def start_killed(mark, number, action, name=""):
        environment = at_touch(number, killed, action, mark, name)
        code, out, err = ended(start(killed, "fewshot", epochs=EPOCHS, environment=environment))
        assert mark.exists(), out + err
        return code, out, err

    rng = random.Random(0)
    for kill in range(KILLS):
        action = ("interrupt launcher", "kill launcher")[kill % 2]
        code, out, err = start_killed(tmp_path / f"kill {kill}", rng.randint(1, TOUCHES), action)
        if action == "kill launcher":
            assert code == -signal.SIGKILL
        else:
            assert (code, out.count("CRASHED")) == (130, 0), out + err
            assert err.endswith("0 of 1 run done; the same command continues\n")

    # The run alone, at its last touch: that is a crash, and it is started once more.
    code, out, err = start_killed(tmp_path / "last kill", 1, "kill run", "result.json")
    assert code == 0, out + err
    assert out.count("killed by SIGKILL; once more") == 1

    assert len(results(quiet)) == 1
    assert results(killed) == results(quiet)
    (console,) = killed.rglob("console.txt")
    assert console.read_text().count("$ python train.py") == KILLS + 2
    assert console.read_text().count("(will resume training)") > 0
    before = {path: path.read_text() for path in killed.rglob("result.json")}
    code, out, err = ended(start(killed, "fewshot", epochs=EPOCHS))
    assert (code, err) == (0, "")
    assert out.startswith("fewshot: 1 run, 1 done, 0 to do")
    assert {path: path.read_text() for path in killed.rglob("result.json")} == before


def test_a_failed_run_is_passed_and_listed(start, tmp_path):
    datasets = ("eurosat", "handwritten_digits")
    code, out, err = ended(
        start(tmp_path / "out", "base2new", trainer="ZeroshotCLIP/mini", datasets=datasets)
    )
    assert (code, err) == (1, "")
    assert "base2new: 6 runs, 0 done, 6 to do" in out
    assert "3 runs failed:" in out
    failed = out.partition(" failed:")[2]
    assert "base2new_train ZeroshotCLIP/mini eurosat 1 shots seed 1: error: " in failed
    assert "out/base2new/train_base/eurosat/shots_1/ZeroshotCLIP/mini/seed1" in failed
    assert len(results(tmp_path / "out")) == 3
    assert "once more" not in out


def test_a_folder_with_something_else_is_listed_and_left_alone(start, tmp_path):
    folder = tmp_path / "out" / "handwritten_digits" / "CoOp" / "mini_1shots" / "seed1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"schema": 1')
    code, out, err = ended(start(tmp_path / "out", "fewshot"))
    assert (code, err) == (1, "")
    assert "1 run failed:\n  fewshot CoOp/mini handwritten_digits 1 shots seed 1: " in out
    assert f"{folder / 'result.json'} is cut off" in out
    assert [path.name for path in folder.iterdir()] == ["result.json"]


def test_runs_of_other_settings_are_named_and_neither_used_nor_overwritten(start, tmp_path):
    """A smoke test's remains, both of the model and of its test; the rest of the grid goes on."""
    cell = Cell("CoOp", "mini", "shapes", 1, 1, ("OPTIM.MAX_EPOCH", "2"))
    runs = [*base_runs(cell), *new_runs(cell), *all_runs(cell)]
    paths = [leave(tmp_path / "out", run, 60.0, backbone="mini") for run in runs]
    before = [path.read_bytes() for path in paths]
    code, out, err = ended(start(tmp_path / "out", "base2new", datasets=("shapes", "handwritten_digits")))
    assert (code, err) == (1, "")
    assert "base2new: 6 runs, 0 done, 6 to do" in out
    assert "3 runs failed:" in out
    assert f"{paths[0].parent} holds a finished run with other settings (OPTIM.MAX_EPOCH: 2 -> 1)" in out
    assert [path.read_bytes() for path in paths] == before
    assert len(results(tmp_path / "out" / "base2new" / "test_new" / "handwritten_digits")) == 1


def test_wrong_settings_stop_it_before_anything_starts(start, tmp_path):
    code, out, err = ended(start(tmp_path / "out", "fewshot", epochs="1.5"))
    assert (code, out) == (2, "")
    assert err.startswith("error: command line: OPTIM.MAX_EPOCH ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_value_that_is_not_allowed_is_said_once_for_all_runs():
    words = ["fewshot", "--trainers", "CoOp/mini", "--datasets", "shapes", "--opts", "OPTIM.LR", "-1"]
    runs = launch.expand(launch.grid_of(launch.make_parser().parse_args(words)))
    with pytest.raises(ValueError, match=r"^OPTIM\.LR is -1\.0, 0 or more is needed$"):
        launch.check_settings(runs)


@pytest.mark.parametrize("key", launch.DECIDED_HERE)
def test_what_the_launcher_decides_is_not_for_its_user(key):
    for option in ("--search", "--opts"):
        words = ["fewshot", "--trainers", "CoOp/mini", option, key, "True"]
        with pytest.raises(ValueError, match=f"{option} {key}: "):
            launch.grid_of(launch.make_parser().parse_args(words))


@pytest.mark.parametrize("protocol", ["base2new", "xd", "overfitting"])
def test_what_is_learned_for_each_class_is_not_tested_on_others(protocol):
    words = [protocol, "--trainers", "CoOp", "TaskRes", "CLAP", "--config", "mini", "--datasets", "shapes"]
    grid = launch.grid_of(launch.make_parser().parse_args([*words, "--source", "handwritten_digits"]))
    runs = launch.expand(grid)
    with pytest.raises(
        ValueError, match=f"^{protocol} tests classes .*, and TaskRes/mini, CLAP/mini would learn"
    ):
        launch.check_classes(protocol, runs)
    runs = [run for run in runs if run.trainer == "CoOp"]
    launch.check_classes(protocol, runs)
    with pytest.raises(ValueError, match=f"^{protocol} .*, and CoOp/mini would learn"):
        launch.check_classes(protocol, runs, ("TRAINER.COOP.CSC", "True"))


def test_variants_with_fewer_classes_are_not_tested_with_what_is_learned_for_each_class():
    """ImageNet-A and -R have 200 of the classes that were trained; V2 and the toy variants have all."""
    method = ["--trainers", "TaskRes", "--config", "mini", "--seeds", "1"]
    for source, variants, refused in (
        ("imagenet", ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"], "imagenet_a, imagenet_r"),
        ("imagenet", ["imagenetv2", "imagenet_sketch"], ""),
        ("shapes", ["shapes_noise"], ""),
    ):
        words = ["dg", *method, "--source", source, "--datasets", *variants]
        runs = launch.expand(launch.grid_of(launch.make_parser().parse_args(words)))
        everyone = launch.all_trainers(launch.make_parser().parse_args([*words, "--trainers", "all"]))
        assert ("TaskRes" in everyone, "CoOp" in everyone) == (not refused, True)
        if not refused:
            launch.check_classes("dg", runs)
            continue
        with pytest.raises(ValueError, match=f"^dg tests on {refused} classes .*, and TaskRes/mini would"):
            launch.check_classes("dg", runs)


def test_what_would_run_is_shown_and_not_run(start, root, tmp_path):
    command = [
        sys.executable,
        root / "tools" / "launch.py",
        "base2new",
        "--trainers",
        "all",
        "--config",
        "mini",
    ]
    command += ["--datasets", "shapes", "--output", tmp_path / "out", "--seeds", "1", "--dry-run"]
    ran = copies.run(command)
    assert (ran.returncode, ran.stderr) == (0, "")
    methods = len(list((root / "configs" / "trainers").glob("*/mini.yaml"))) - len(OWN_CLASSES_ONLY)
    assert not any(f"{method}/mini" in ran.stdout for method in OWN_CLASSES_ONLY)
    assert "ZeroshotCLIP/mini" in ran.stdout
    assert ran.stdout.startswith(f"base2new: {3 * methods} runs, 0 done, {3 * methods} to do\n")
    assert ran.stdout.count("\npython train.py ") == 3 * methods
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("protocol", ["overfitting", "zeroshot"])
def test_all_trainers_are_those_that_a_protocol_is_for(root, tmp_path, protocol):
    command = [
        sys.executable,
        root / "tools" / "launch.py",
        protocol,
        "--trainers",
        "all",
        "--config",
        "mini",
    ]
    command += ["--datasets", "shapes", "--output", tmp_path / "out", "--dry-run"]
    ran = copies.run(command)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ("ZeroshotCLIP/mini" in ran.stdout) == (protocol == "zeroshot")
    assert ("CoOp/mini" in ran.stdout) == (protocol != "zeroshot")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("base3new",), "protocol 'base3new' is unknown, choose from: base2new, fewshot"),
        (("fewshot", "--source", "atlantis", "--shots", "0"), "--shots 0: must be 1 or more"),
        (("xd", "--source", "atlantis"), "data set 'atlantis' is unknown"),
    ],
)
def test_wrong_input_is_one_line(root, tmp_path, words, said):
    command = [sys.executable, root / "tools" / "launch.py", *words, "--trainers", "CoOp/mini"]
    ran = copies.run([*command, "--output", tmp_path])
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: {said}")
    assert len(ran.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_stops_it_at_once(start, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = ended(start(tmp_path / "file", "base2new"))
    assert code == 2
    assert err.startswith(f"error: output folder {tmp_path / 'file'} cannot be written")
    assert "CoOp/mini" in out  # the grid was shown
