import sys

import pytest

from dassl.utils import Logger
from runs.command_line import make_parser
from runs.log import print_args, print_system, start_log
from runs.schema import setup_cfg


@pytest.fixture
def console(capsys):
    """What a person has seen; the logger is taken off stdout again."""
    yield lambda: capsys.readouterr().out
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
        sys.stdout = sys.stdout.console


def say(text):
    print(text)
    sys.stdout.close()
    sys.stdout = sys.stdout.console


def test_a_continued_run_has_one_log(tmp_path, console):
    for text in ("first", "second", "third"):
        start_log(str(tmp_path))
        say(text)
    (log,) = tmp_path.iterdir()
    lines = [line for line in log.read_text().splitlines() if line]
    assert [line for line in lines if not line.startswith("**")] == ["first", "second", "third"]
    assert sum(line.startswith("** Continued on 20") for line in lines) == 2
    assert console() == "first\nsecond\nthird\n"


def test_a_run_that_is_done_anew_has_another(tmp_path, console):
    start_log(str(tmp_path))
    say("first")
    start_log(str(tmp_path), anew=True)
    say("second")
    assert (tmp_path / "log.txt").read_text() == "first\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_person_sees_what_differs_and_the_log_holds_all(tmp_path, console):
    args = make_parser().parse_args(
        [
            "--trainer",
            "CoOp",
            "--output-dir",
            str(tmp_path),
            "--eval-only",
            "--model-dir",
            "there",
            "OPTIM.LR",
            "0.5",
        ]
    )
    cfg = setup_cfg(args)
    start_log(str(tmp_path))
    print_args(args, cfg)
    print_system("GCC version: 12\nmany packages")
    seen = console()
    assert len(seen.splitlines()) <= 5
    for setting in ("OPTIM.LR 0.5", "TRAINER.NAME CoOp", "--model-dir there", "--eval-only True"):
        assert setting in seen
    assert "OPTIM.MOMENTUM" not in seen
    assert "many packages" not in seen

    log = (tmp_path / "log.txt").read_text()
    assert log.startswith("***************\n** Arguments **\n***************\nbackbone: \n")
    assert f"************\n** Config **\n************\n{cfg}\n" in log
    assert "** System info **\nGCC version: 12\nmany packages" in log
