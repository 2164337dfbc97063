import ipaddress
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from foundation.errors import WrongInput
from runs.errors import OneLineParser, clean_errors, terminate_as_interrupt

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from runs.errors import clean_errors
with clean_errors():
    {body}
"""


def run_program(root: Path, body: str, pipe_to: str = "cat") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(root=str(root), body=body)
    shell = f'set -o pipefail; "$0" -c "$1" | {pipe_to}'
    return subprocess.run(["bash", "-c", shell, sys.executable, program], capture_output=True, text=True)


@pytest.mark.parametrize(
    "error", [ValueError("a wrong value"), OSError("a bad disk"), FloatingPointError("NaN")]
)
def test_a_deliberate_error_is_one_line_and_code_2(error, capsys):
    with pytest.raises(SystemExit) as ended, clean_errors():
        raise error
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_message_of_several_lines_is_one_line(capsys):
    with pytest.raises(SystemExit), clean_errors():
        raise ValueError("first\nsecond")
    assert capsys.readouterr().err == "error: first second\n"


def test_an_operating_system_error_names_its_file(tmp_path, capsys):
    with pytest.raises(SystemExit), clean_errors():
        os.remove(tmp_path / "missing")
    assert capsys.readouterr().err == f"error: {tmp_path / 'missing'}: No such file or directory\n"


def test_an_error_raised_inside_a_library_keeps_its_traceback():
    with pytest.raises(ValueError, match="unknown"), clean_errors():
        torch.utils.data.DataLoader([1], multiprocessing_context="unknown", num_workers=1)


def test_a_bug_of_the_type_of_a_wrong_input_keeps_its_traceback():
    """It is not for the user to mend, and the launcher tries again."""
    with pytest.raises(ValueError, match="invalid literal"), clean_errors():
        int("old2")


def test_a_class_of_our_own_says_whose_an_error_is(capsys):
    with pytest.raises(SystemExit) as ended, clean_errors():
        raise WrongInput("a wrong value")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: a wrong value\n"


def test_a_termination_is_one_line_and_code_143(capsys):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, clean_errors():
            terminate_as_interrupt()
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert capsys.readouterr().err == "terminated\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(KeyError), clean_errors():
        raise KeyError("a bug")


def test_the_traceback_can_be_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("MMPROMPT_TRACEBACK", "1")
    with pytest.raises(SystemExit), clean_errors():
        raise ValueError("a wrong value")
    assert "Traceback" in capsys.readouterr().err


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        try:
            raise OSError("cannot identify image")
        except OSError as error:
            raise ValueError(f"image {index} is truncated") from error


def read_in_a_worker(dataset):
    batches = iter(DataLoader(dataset, num_workers=1, batch_size=1))
    try:
        next(batches)
    finally:
        batches._shutdown_workers()  # the garbage collector takes five seconds for it


def test_an_error_in_a_data_loader_worker_is_as_clean(capsys):
    with pytest.raises(SystemExit), clean_errors():
        read_in_a_worker(Broken())
    assert capsys.readouterr().err == "error: image 0 is truncated\n"


class BrokenInLibrary(Broken):
    def __getitem__(self, index):
        return ipaddress.ip_address("nowhere")


def test_a_library_error_in_a_data_loader_worker_keeps_its_traceback():
    with pytest.raises(ValueError, match="Original Traceback"), clean_errors():
        read_in_a_worker(BrokenInLibrary())


def test_an_interrupt_is_one_line_and_code_130(capsys):
    with pytest.raises(SystemExit) as ended, clean_errors():
        raise KeyboardInterrupt("in epoch 3 of 9")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted: in epoch 3 of 9\n"


def test_it_decorates_functions(capsys):
    @clean_errors()
    def main():
        raise ValueError("a wrong value")

    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "error: a wrong value\n"


@pytest.mark.parametrize("lines", [10, 100_000])
def test_a_reader_that_leaves_early_gets_no_traceback(root, lines):
    ran = run_program(root, f"[print(i) for i in range({lines})]", pipe_to="head -n 1")
    assert ran.stdout == "0\n"
    assert ran.stderr == ""


def test_another_broken_pipe_is_an_error_like_others(root):
    ran = run_program(root, "raise BrokenPipeError('a worker is gone')")
    assert ran.returncode == 2
    assert ran.stderr == "error: a worker is gone\n"


def test_a_wrong_argument_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        OneLineParser(prog="program").parse_args(["--wrong"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --wrong (see program --help)\n"
