"""tools/parity.py as a user runs it, on the recordings beside this checkout."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from dassl.engine import TRAINER_REGISTRY
from runs.errors import clean_errors
from tests import copies
from tools import parity


@pytest.fixture(scope="module")
def recordings(shared):
    return shared / "parity"


@pytest.fixture
def run(monkeypatch, capsys):
    """The program in this process: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["parity.py", *map(str, words)])
        try:
            with clean_errors():
                code = parity.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def copy(recordings, tmp_path):
    """A folder with one case, whose recording can be changed: copy("zsclip", {"eval.logits": change})."""

    def copy(case, changes, trainer=None):
        index = json.loads((recordings / "index.json").read_text())
        entry = index[case] | ({"trainer": trainer} if trainer else {})
        folder = tmp_path / "recordings"
        shutil.copytree(recordings / "shared", folder / "shared")
        (folder / entry["folder"]).mkdir()
        shutil.copy(recordings / entry["folder"] / f"{case}.json", folder / entry["folder"])
        tensors = load_file(recordings / entry["folder"] / f"{case}.safetensors")
        for key, change in changes.items():
            tensors[key] = change(tensors[key].clone()).contiguous()
        save_file(tensors, folder / entry["folder"] / f"{case}.safetensors")
        (folder / "index.json").write_text(json.dumps({case: entry}))
        return folder

    return copy


def verdicts(out):
    """Case -> the last word of its line."""
    lines = out.splitlines()[1:]
    ends = (" ok", "TOO LARGE", "no trainer yet")
    return {line.split()[0]: line.split()[-1] for line in lines if line.endswith(ends)}


@pytest.mark.parametrize("folder", ["parity", "parity_newer"])
def test_every_recorded_case_is_reproduced(folder, root, shared):
    """Exit code 0 where every case has its trainer, else 1 with the names of those that have none."""
    recordings = shared / folder
    ended = copies.run([sys.executable, root / "tools" / "parity.py", recordings])
    assert ended.stderr == ""
    index = json.loads((recordings / "index.json").read_text())
    found = verdicts(ended.stdout)
    assert found.keys() == index.keys()
    without = [name for name, verdict in found.items() if verdict == "yet"]
    assert {verdict for name, verdict in found.items() if name not in without} <= {"ok"}
    assert ended.returncode == (1 if without else 0)
    if without:
        assert "no trainer yet: " + ", ".join(f"{n} ({index[n]['trainer']})" for n in without) in ended.stdout
    for name, *cells in (line.split()[:1] + line.split()[2:7] for line in ended.stdout.splitlines()):
        if found.get(name) == "ok":  # all errors wherever there is something to train
            *errors, trajectory, _ = cells
            assert [*errors, trajectory].count("-") == (3 if index[name]["train_loss"] is None else 0)
            assert all(float(error) < 1e-4 for error in errors if error != "-")
            assert trajectory == "-" or float(trajectory) < 5e-4


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("eval.logits", lambda x: x.index_put((torch.tensor(1), torch.tensor(2)), x.max() * 1.001)),
        ("eval.logits", lambda x: x * float("nan")),
        ("train.loss", lambda x: x * 1.001),
        ("grad.prompt_learner.ctx", lambda x: x + 0.001 * x.abs().max()),
        ("traj.loss", lambda x: x * torch.linspace(1, 1.001, len(x), dtype=x.dtype)),
        ("param.prompt_learner.ctx", lambda x: x * 1.01),
    ],
)
def test_a_wrong_number_is_found(key, change, copy, run):
    code, out, err = run(copy("coop_end", {key: change}), "coop_end")
    assert (code, err) == (1, "")
    assert verdicts(out) == {"coop_end": "LARGE"}
    assert "above 0.0001: coop_end" in out


def test_the_tolerance_can_be_chosen(copy, run):
    folder = copy("zsclip", {"eval.logits": lambda x: x * 1.001})
    assert run(folder)[0] == 1
    assert run(folder, "--tolerance", 0.01)[0] == 0


def test_a_case_without_a_trainer_is_named_and_fails(copy, run):
    code, out, _ = run(copy("zsclip", {}, trainer="NotThere"))
    assert code == 1
    assert "no trainer yet: zsclip (NotThere)" in out


def test_only_the_cases_that_are_asked_for(recordings, run):
    code, out, _ = run(recordings, "zsclip")
    assert code == 0
    assert verdicts(out) == {"zsclip": "ok"}
    assert "ZeroshotCLIP" in TRAINER_REGISTRY.registered_names()


def test_wrong_input_is_one_line(recordings, run, tmp_path):
    for words, said in (
        ((tmp_path,), "holds no recordings: there is no index.json"),
        ((recordings, "coop_end", "nothing"), "no such case: nothing; there are: zsclip"),
    ):
        code, _, err = run(*words)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert err.startswith("error: ")
        assert said in err
