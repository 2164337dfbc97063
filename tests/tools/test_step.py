import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from runs.record import read_record
from tools import step
from tools.protocols import STEPS
from tools.step import runs_of, usage

FIRST = ["CoOp", "mini", "shapes", "1"]


def test_shots_and_settings_follow_the_four():
    (run,) = runs_of("fewshot", [*FIRST, "4", "OPTIM.LR", "0.1"])
    assert (run.shots, run.settings) == (4, ("DATASET.NUM_SHOTS", "4", "OPTIM.LR", "0.1"))
    (run,) = runs_of("fewshot", [*FIRST, "OPTIM.LR", "0.1"])
    assert (run.shots, run.settings[-2:]) == (16, ("OPTIM.LR", "0.1"))
    (run,) = runs_of("dg_test", ["CoOp", "mini", "shapes_noise", "1", "2", "shapes", "OPTIM.LR", "0.1"])
    assert run.tests == "shapes/CoOp/mini_2shots/seed1"
    (run,) = runs_of("prompt_length", [*FIRST, "8"])
    assert run.folder.endswith("shapes/shots_16/CoOp/mini/nctx8/seed1")


@pytest.mark.parametrize(
    ("step", "words", "message"),
    [
        (
            "train",
            FIRST,
            "step 'train' is unknown, choose from: base2new_train, base2new_test, base2new_all, fewshot",
        ),
        (
            "fewshot",
            FIRST[:2],
            r"usage: scripts/fewshot.sh TRAINER CFG DATASET SEED \[SHOTS\].*DATASET, SEED mis",
        ),
        ("fewshot", [*FIRST[:3], "one"], "SEED is 'one', an integer is needed"),
        ("fewshot", [*FIRST, "many"], "SHOTS is 'many'"),
        ("prompt_length", [*FIRST, "OPTIM.LR", "1"], "N_CTX missing"),
        ("fewshot", [*FIRST, "4", "OPTIM.LR"], "'OPTIM.LR' has no value"),
        ("xd_test", [*FIRST, "4", "atlantis"], "data set 'atlantis' is unknown"),
        ("fewshot", ["CoCo", *FIRST[1:]], "trainer 'CoCo' is unknown"),
    ],
)
def test_wrong_arguments_are_named(step, words, message):
    with pytest.raises(ValueError, match=message):
        runs_of(step, words)


def test_every_step_has_a_script_that_says_how_it_is_called(root):
    for name in STEPS:
        script = (root / "scripts" / f"{name}.sh").read_text()
        assert usage(name).replace("[SHOTS] [SOURCE]", "[SHOTS [SOURCE]]") in script
        assert f'step.py" {name} ' in script


def run_script(root, name, *words, **variables):
    return subprocess.run(
        ["bash", str(root / "scripts" / f"{name}.sh"), *map(str, words)],
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1", **variables},
        cwd=variables["OUTPUT"],
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(
    not any(name.startswith(".mmprompt-installed") for name in os.listdir(sys.prefix)),
    reason="scripts/test.sh has not set this environment up",
)
def test_base_to_new_by_its_scripts_from_another_folder(root, tmp_path, data_root):
    output = tmp_path / "the output"
    output.mkdir()
    folders = {"OUTPUT": str(output), "DATA": str(data_root)}
    cell = ("CoOp", "mini", "handwritten_digits", 1, 1)

    train = run_script(root, "base2new_train", *cell, "OPTIM.MAX_EPOCH", 1, **folders)
    assert train.returncode == 0, train.stderr
    test = run_script(root, "base2new_test", *cell, **folders)
    assert test.returncode == 0, test.stderr
    name = "handwritten_digits/shots_1/CoOp/mini/seed1"
    base = read_record(output / "base2new" / "train_base" / name)
    new = read_record(output / "base2new" / "test_new" / name)
    assert [c["class"] for c in base["metrics"]["per_class"]] == ["zero", "one", "two", "three", "four"]
    assert [c["class"] for c in new["metrics"]["per_class"]] == ["five", "six", "seven", "eight", "nine"]
    assert (base["kind"], new["kind"]) == ("train", "eval")

    again = run_script(root, "base2new_test", *cell, **folders)
    assert again.returncode == 0
    assert again.stdout.splitlines() == [f"Results are in {output}/base2new/test_new/{name} already"]
    other = run_script(root, "base2new_train", *cell, "OPTIM.MAX_EPOCH", 2, **folders)
    assert other.returncode == 2
    assert "OPTIM.MAX_EPOCH: 1 -> 2" in other.stderr


def test_a_finished_run_is_done_again_where_that_is_asked_for(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    monkeypatch.setattr(step, "finished", lambda run, output: {"kind": "train"})
    monkeypatch.setattr(
        step.subprocess, "run", lambda command, **_: (calls.append(command), SimpleNamespace(returncode=0))[1]
    )
    words = ["step", "fewshot", "CoOp", "mini", "shapes", "1", "1"]
    monkeypatch.setattr(step.sys, "argv", words)
    step.main()
    assert not calls
    monkeypatch.setattr(step.sys, "argv", [*words, "TRAIN.OVERWRITE", "True"])
    step.main()
    assert len(calls) == 1
