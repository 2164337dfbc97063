import sys
from pathlib import Path

import pytest

from runs.errors import clean_errors
from tests.tools.outputs import leave
from tools import parse_test_res
from tools.launching.cell import Cell
from tools.protocols.few_shot import fewshot

LOG = (Path(__file__).with_name("samples") / "coop_train.log").read_text()


@pytest.fixture
def logs(tmp_path):
    """Logs of the original CoOp with three seeds, the accuracies of 83.1, 84.1 and 88.0 %."""
    for seed, (accuracy, error) in enumerate([("83.1", "16.9"), ("84.1", "15.9"), ("88.0", "12.0")], 1):
        folder = tmp_path / "exp" / f"seed{seed}"
        folder.mkdir(parents=True)
        text = LOG.replace("accuracy: 83.1%", f"accuracy: {accuracy}%").replace("16.9%", f"{error}%")
        (folder / "log.txt").write_text(text)
    return tmp_path / "exp"


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["parse_test_res.py", *map(str, words)])
    with clean_errors():
        parse_test_res.main()
    return capsys.readouterr().out


def test_logs_of_the_original_give_its_output(logs, monkeypatch, capsys):
    # Mean 85.0667, deviations -1.9667, -0.9667, 2.9333; population standard deviation 2.1140.
    assert run(monkeypatch, capsys, logs) == (
        f"Parsing files in {logs}\n"
        f"file: {logs}/seed1/log.txt. accuracy: 83.10%. error: 16.90%. \n"
        f"file: {logs}/seed2/log.txt. accuracy: 84.10%. error: 15.90%. \n"
        f"file: {logs}/seed3/log.txt. accuracy: 88.00%. error: 12.00%. \n"
        "===\n"
        f"Summary of directory: {logs}\n"
        "* accuracy: 85.07% +- 2.11%\n"
        "* error: 14.93% +- 2.11%\n"
        "===\n"
    )
    assert "* accuracy: 85.07% +- 2.39%\n" in run(
        monkeypatch, capsys, logs, "--ci95"
    )  # 1.96 * 2.1140 / sqrt(3)


def test_older_logs_end_otherwise(logs, monkeypatch, capsys):
    path = logs / "seed1" / "log.txt"
    path.write_text(path.read_text().replace("Finish training", "Finished training"))
    assert "seed1/log.txt. accuracy: 83.10%" in run(monkeypatch, capsys, logs)


def test_an_unfinished_run_is_left_out(logs, monkeypatch, capsys):
    path = logs / "seed3" / "log.txt"
    path.write_text(path.read_text().partition("Finish training")[0])
    out = run(monkeypatch, capsys, logs)
    assert "seed3" not in out
    assert "* accuracy: 83.60% +- 0.50%" in out


def test_logs_of_tests_alone(logs, monkeypatch, capsys):
    for path in logs.glob("*/log.txt"):
        path.write_text("Load weights\n" + path.read_text().partition("Deploy the last-epoch model")[2])
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, logs)
    assert capsys.readouterr().err == f"error: no result of a finished run in {logs}\n"
    assert "* accuracy: 85.07%" in run(monkeypatch, capsys, logs, "--test-log")


def test_records_go_before_logs(logs, monkeypatch, capsys):
    for seed, accuracy in ((1, 70.125), (2, 70.125), (3, 70.125)):
        found = fewshot(Cell("CoOp", "mini", "dtd", seed))[0]
        leave(logs / f"seed{seed}", found, accuracy).rename(logs / f"seed{seed}" / "result.json")
    out = run(monkeypatch, capsys, logs)
    assert f"file: {logs}/seed1/result.json. accuracy: 70.12%. error: 29.88%. \n" in out
    assert "* accuracy: 70.12% +- 0.00%" in out


def test_several_experiments_are_averaged(logs, monkeypatch, capsys):
    other = logs.parent / "exp-2" / "seed1"
    other.mkdir(parents=True)
    (other / "log.txt").write_text(LOG)
    out = run(monkeypatch, capsys, logs.parent, "--multi-exp")
    assert out.endswith("===\nAverage performance\n* accuracy: 84.08%\n* error: 15.92%\n")


@pytest.mark.parametrize(
    ("make", "said"),
    [("", "there is no folder"), ("seed1", "seed1 holds neither result.json nor log.txt")],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys, make, said):
    if make:
        (tmp_path / "exp" / make).mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, tmp_path / "exp")
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
