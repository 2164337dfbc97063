import os
import signal
import sys
import time
from pathlib import Path

import pytest

from foundation.pool import process_pool
from tests import copies

PROGRAM = """
import os, sys, time
from concurrent.futures import wait
from pathlib import Path
from foundation.pool import process_pool

def work(number):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(0.2)  # so that another takes the next one

if __name__ == "__main__":
    with process_pool(3) as pool:
        list(pool.map(work, range(6)))
        Path(sys.argv[1], "done").touch()
        time.sleep(600)
"""


def is_there(pid: str) -> bool:
    """Whether a process is there and no zombie, which waits for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_they_end_with_a_program_that_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "pids").mkdir()
    program = copies.start([sys.executable, tmp_path / "program.py", tmp_path / "pids"])
    assert wait_until((tmp_path / "pids" / "done").exists)
    pids = {path.name for path in (tmp_path / "pids").iterdir()} - {"done"}
    assert len(pids) == 3
    assert all(map(is_there, pids))
    program.kill()
    assert wait_until(lambda: not any(map(is_there, pids)))


def interrupted(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return 2 * number


def test_ctrl_c_is_for_the_program():
    with process_pool(2) as pool:
        assert list(pool.map(interrupted, range(4))) == [0, 2, 4, 6]
