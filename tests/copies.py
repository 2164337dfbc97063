"""Programs that need not import what this process has: PyTorch and what stands on it take each of them five seconds.

As `subprocess` runs a command that begins with Python and the file of a program (or `-m` and a module); here it runs in
a copy of this process. The program runs whole, with a process, signals, standard streams, warnings and an exit code of
its own. What is not tried is how Python starts: a test that is about that takes `subprocess`.

With `apart` the copy has forgotten this checkout: the program imports its modules anew, from where it finds them. What
it need not import again is what is installed.
"""

import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.multiprocessing

from tests.interruption import HOOK

#: Where a device has been used no copy can use it, and not every system's libraries stand one.
POSSIBLE = sys.platform == "linux" and not torch.cuda.is_available()
#: What a program need not import again takes long, and this process perhaps has not imported it either.
INSTALLED = ("matplotlib.pyplot", "pandas", "scipy.optimize", "sklearn.datasets", "train")
_forgotten: dict[str, Any] = {}
CHECKOUT = Path(__file__).resolve().parents[1]
NOT_SHOWN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Copy:
    """As `subprocess.Popen`; what goes into a pipe is kept for `communicate`, as text."""

    def __init__(
        self,
        command: Sequence[object],
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = True,
        start_new_session: bool = False,
        preexec_fn: Callable[[], object] | None = None,
        apart: bool = False,
    ) -> None:
        self.args = [str(word) for word in command]
        assert Path(self.args[0]).name.startswith("python")
        assert self.args[1] == "-m" or self.args[1].endswith(".py")
        self._files: list[Any] = []
        streams = []
        for stream in (stdout, stderr):
            self._files.append(tempfile.TemporaryFile("w+") if stream == subprocess.PIPE else None)  # noqa: SIM115
            streams.append(self._files[-1] or (None if stream == subprocess.STDOUT else stream))
        if stderr == subprocess.STDOUT:
            streams[1] = streams[0]
        numbers = [None if stream is None else stream.fileno() for stream in streams]
        arguments = (self.args, cwd, env, numbers, start_new_session, preexec_fn, apart)
        self._process = multiprocessing.get_context("fork").Process(target=_program, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = self._files
        for file in (out, err):
            if file:
                file.seek(0)
        return out.read() if out else "", err.read() if err else ""

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid or 0, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(command: Sequence[object], *, apart: bool = False, **options: Any) -> Any:
    """`subprocess.Popen`."""
    words = [str(word) for word in command]
    if not POSSIBLE:
        return subprocess.Popen([sys.executable, *words[1:]], **options)
    if apart:
        for name in INSTALLED:
            importlib.import_module(name)
    return Copy(words, apart=apart, **options)


def run(command: Sequence[object], *, timeout: float = 900, **options: Any) -> Any:
    """`subprocess.run` that captures the output, as text."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = start(command, **{**pipes, **options})
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def spawn(function: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
    """`torch.multiprocessing.spawn`."""
    method = "fork" if POSSIBLE else "spawn"
    torch.multiprocessing.start_processes(function, args, nprocs, start_method=method)


#: Takes the place of the module `subprocess` in a module that starts such programs.
IN_PLACE = SimpleNamespace(**{**vars(subprocess), "Popen": start, "run": run})


def _program(
    words: list[str],
    cwd: Path | str | None,
    env: Mapping[str, str] | None,
    streams: list[int | None],
    start_new_session: bool,
    preexec_fn: Callable[[], object] | None,
    apart: bool,
) -> None:
    if start_new_session:
        os.setsid()
    if preexec_fn:
        preexec_fn()
    for number, stream in enumerate(streams, start=1):
        if stream is not None:
            os.dup2(stream, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    for category in NOT_SHOWN:
        warnings.simplefilter("ignore", category)
    warnings.showwarning = _show  # type: ignore[assignment]
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    if apart:
        _forget_the_checkout()
    sys.orig_argv = words
    if "TESTS_INTERRUPTION" in os.environ:
        exec(HOOK, {})
    if words[1] == "-m":
        sys.argv, sys.path = words[2:], [os.getcwd(), *sys.path]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path = words[1:], [str(Path(words[1]).resolve().parent), *sys.path]
        runpy.run_path(words[1], run_name="__main__")


def _forget_the_checkout() -> None:
    def is_of_it(place: str | None) -> bool:
        path = os.path.abspath(place or "/") + "/"
        return path.startswith(f"{CHECKOUT}/") and not path.startswith(f"{sys.prefix}/")

    _forgotten.update(sys.modules)  # what goes would take seconds to end
    for name, module in list(sys.modules.items()):
        if is_of_it(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)):
            del sys.modules[name]
    sys.path = [entry for entry in sys.path if not is_of_it(entry)]


def _show(message: Any, category: Any, filename: str, line: int, file: Any = None, text: Any = None) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, line, text))
