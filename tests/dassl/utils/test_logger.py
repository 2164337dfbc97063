import io
import sys

import pytest

from dassl.utils import setup_logger


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def use_console(monkeypatch):
    """A function that puts a terminal in stdout's place (in the test itself: pytest sets stdout before it)."""

    def use() -> io.StringIO:
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return use


def test_lines_go_to_the_console_and_at_once_to_the_file(tmp_path, use_console):
    console = use_console()
    setup_logger(str(tmp_path / "run"))
    print("epoch 1")
    assert (tmp_path / "run" / "log.txt").read_text() == console.getvalue() == "epoch 1\n"


def test_it_stands_for_the_console(tmp_path, use_console):
    console = use_console()
    setup_logger(tmp_path / "my.log")
    assert (tmp_path / "my.log").exists()
    assert sys.stdout.isatty()
    assert sys.stdout.encoding == console.encoding
    with pytest.raises(io.UnsupportedOperation):
        sys.stdout.fileno()


def test_progress_bars_stay_out_of_the_file(tmp_path, use_console):
    console = use_console()
    setup_logger(tmp_path)
    sys.stdout.write("\r 50%|#####     |")
    sys.stdout.write("done\n")
    assert (tmp_path / "log.txt").read_text() == "done\n"
    assert "50%" in console.getvalue()


def test_an_existing_log_is_kept_and_runs_do_not_share_one(tmp_path, use_console):
    console = use_console()
    setup_logger(tmp_path)
    print("first")
    setup_logger(tmp_path)
    print("second")
    logs = sorted(tmp_path.iterdir())
    assert [log.read_text() for log in logs] == ["first\n", "second\n"]
    assert logs[1].name.startswith("log.txt-20")
    assert console.getvalue() == "first\nsecond\n"


def test_closing_leaves_the_console_open(tmp_path, use_console):
    console = use_console()
    setup_logger(tmp_path)
    sys.stdout.close()
    print("still here")
    assert console.getvalue() == "still here\n"


def test_no_output_no_log(use_console):
    console = use_console()
    setup_logger(None)
    assert sys.stdout is console
