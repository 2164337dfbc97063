"""Two processes in one folder."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from foundation.errors import FolderInUse
from runs import lock
from runs.lock import FILE_NAME, only_one
from tests.conftest import ROOT

HOLDER = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
from runs.lock import only_one

with only_one(pathlib.Path(sys.argv[2])):
    child = os.fork() if "fork" in sys.argv else 0
    if "fork" in sys.argv and child == 0:
        signal.pause()
    print(child, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder, *words):
    """A process that holds the folder, and a child of it."""
    command = [sys.executable, "-c", HOLDER, str(ROOT), str(folder), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, int(process.stdout.readline())


def test_the_second_one_is_told_who_has_the_folder(tmp_path):
    with holder(tmp_path) as (process, _), pytest.raises(FolderInUse) as told, only_one(tmp_path):
        pass
    assert str(told.value).startswith(
        f"{tmp_path} is in use by process {process.pid} on {socket.gethostname()} since 2"
    )
    with only_one(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path):
    with holder(tmp_path) as (process, _):
        process.kill()
        process.wait()
        assert (tmp_path / FILE_NAME).exists()
        with only_one(tmp_path):
            pass


def test_a_child_that_outlives_a_killed_process_holds_nothing(tmp_path):
    """As a data loader's workers do, for some seconds."""
    with holder(tmp_path, "fork") as (process, child):
        process.kill()
        process.wait()
        try:
            with only_one(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.fixture
def without_locks(monkeypatch):
    """A file system that has none."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)


def left_by(folder, host, process):
    (folder / FILE_NAME).write_text(json.dumps({"host": host, "process": process, "since": "2026-01-01"}))


def test_without_locks_a_process_of_this_machine_is_found_by_its_number(without_locks, tmp_path):
    left_by(tmp_path, socket.gethostname(), os.getppid())
    with pytest.raises(FolderInUse, match=f"process {os.getppid()}"), only_one(tmp_path):
        pass
    with subprocess.Popen(["true"]) as ended:
        pass
    left_by(tmp_path, socket.gethostname(), ended.pid)
    with only_one(tmp_path):
        assert json.loads((tmp_path / FILE_NAME).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_without_locks_another_machine_is_named_and_not_waited_for(without_locks, tmp_path, capsys):
    left_by(tmp_path, "elsewhere", 1)
    with only_one(tmp_path):
        pass
    said = capsys.readouterr().out
    assert "process 1 on elsewhere since 2026-01-01" in said
    assert "cannot be seen" in said
