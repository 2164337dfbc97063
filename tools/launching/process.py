"""One run as a process of its own: its environment, its console.txt, and how it is stopped.

The console file is locked while the process lives (also when who started it is gone), so no two work in one folder.
"""

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from runs import ROOT, search
from tools.launching.run import Run, as_typed
from tools.launching.state import finished

CONSOLE = "console.txt"
WRONG_INPUT = 2  # the exit code of an error that a second try would meet again
SECONDS_TO_STOP = 30.0
SECONDS_BETWEEN = 0.2


class RunProcess:
    """train.py at work on a run.

    Args:
        data, output: the folders of the data sets and of all results.
        environment: variables that differ from this process's, e.g. CUDA_VISIBLE_DEVICES.
        ignored: signals that are meant for who starts it, not for it.

    Raises:
        BlockingIOError: another process works in the run's folder.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        run: Run,
        data: Path,
        output: Path,
        environment: dict[str, str],
        ignored: Sequence[signal.Signals] = (),
    ) -> None:
        self.run, self.output = run, output
        self.console = output / run.folder / CONSOLE
        self.started = time.monotonic()
        self.console.parent.mkdir(parents=True, exist_ok=True)
        if run.search:
            search.note(run.search, self.console.parent)
        command = run.command(data, output)
        with self.console.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.offset = file.tell()  # where this try begins
            file.write(f"$ {as_typed(command)}\n".encode())
            file.flush()
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches it through `stop` alone
                preexec_fn=_before_exec(ignored),
            )

    def poll(self) -> int | None:
        """The exit code, None while it runs. A run that has ended well but left no record has code 1."""
        code = self._process.poll()
        if code != 0:
            return code
        try:
            return 0 if finished(self.run, self.output) else 1
        except ValueError:  # of another run
            return 1

    def wait(self) -> int:
        """Wait for the exit code, which is as `poll` says."""
        while (code := self.poll()) is None:
            time.sleep(SECONDS_BETWEEN)
        return code

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def stop(self, seconds: float = SECONDS_TO_STOP) -> None:
        """Wait for it to end after `interrupt`; after `seconds` kill it. Either way the run can be continued."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tail(self, size: int = 4096) -> str:
        """The end of what this try has printed so far; "" where the folder has gone."""
        try:
            with self.console.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.offset, end - size))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def progress(self) -> str:
        """How far it is, in its own words: "epoch 3/10, batch 5/20, loss 1.21, eta 0:02:10"; "starting" before."""
        said = "starting"
        for line in self.tail().splitlines():
            step = re.match(r"epoch \[(\d+/\d+)\] batch \[(\d+/\d+)\]", line)
            if step:
                loss, eta = re.search(r" loss (\S+)", line), re.search(r" eta (.+)", line)
                said = f"epoch {step[1]}, batch {step[2]}"
                said += f", loss {float(loss[1]):.3g}" if loss else ""
                said += f", eta {eta[1].strip()}" if eta else ""
            elif line.startswith("Evaluate on"):
                said = "evaluating"
        return said

    def reason(self) -> str:
        """Why it has failed: the error's line, or the last one printed."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip() and line[:2] != "$ "]
        errors = [line for line in lines if line.startswith("error: ")]
        code = self._process.returncode
        killed = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else ""
        return killed or (errors or lines or [f"exit code {code}, nothing printed"])[-1]


def _before_exec(ignored: Sequence[signal.Signals]) -> Callable[[], None]:
    """On Linux the process ends with who started it, even where that is killed and cannot say so."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        if libc is not None:
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it has gone in between
                os._exit(1)

    return prepare
