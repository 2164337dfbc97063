"""A run in several processes, as torchrun starts them: meeting, agreeing on what is run, and ending together.

torchrun says in the environment which of how many processes this one is (RANK, WORLD_SIZE, ...). They meet in a
torch.distributed process group and in its key-value store. There, a thread of each gives signs of life and looks at
those of the others: when a process ends with an error or is lost, the others would wait for it without end, so they
end, too, and one of them says in one line which process it was and why.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from foundation import identity
from foundation.errors import WrongInput
from runs import DASSL
from runs.errors import DELIBERATE, is_deliberate, one_line

SIGN_EVERY = 0.5  # seconds
LOST_AFTER = 30.0  # seconds without a sign
LOST_AFTER_HINT = 6.0  # ... when a connection broke or torchrun asks to stop, which then waits 30 seconds
GRACE = 2.0  # seconds that a process gets to end by itself where another has ended
COLLECTIVE = timedelta(hours=1)  # how long one may wait for the others, for example while data are prepared


def count() -> int:
    """How many processes torchrun has started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Which of them this one is; the first, 0, prints and writes files."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def use_device(use_cuda: bool) -> None:
    """Take this process's own GPU, if GPUs are to be used.

    Raises:
        ValueError: there are fewer GPUs than processes on this machine.
    """
    if count() == 1 or not (use_cuda and torch.cuda.is_available()):
        return
    local, there = int(os.environ.get("LOCAL_RANK", rank())), torch.cuda.device_count()
    if local >= there:
        raise WrongInput(
            f"process {local} of this machine has no GPU: there are {there}; start at most as many processes, "
            "or set USE_CUDA False"
        )
    torch.cuda.set_device(local)


@contextlib.contextmanager
def joined() -> Iterator["Ranks | None"]:
    """Run the body together with the other processes; None where this is the only one.

    Inside ``runs.errors.clean_errors``, which prints what the first process raises; others print nothing.
    """
    if count() == 1:
        yield None
        return
    if DASSL:
        raise WrongInput(
            f"the Dassl in {DASSL} (DASSL_PATH) trains in one process: start it without torchrun"
        )
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (as long as the process)
        warnings.simplefilter("ignore")
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=COLLECTIVE)
    ranks = Ranks(rank(), count())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield ranks
        dist.barrier()
    except BaseException as error:
        ranks.end_with(error)
        raise
    ranks.stop()
    dist.destroy_process_group()


class Ranks:
    """This process among the others."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self.store = self._connect()
        self.limit = LOST_AFTER
        self._stopped = threading.Event()
        self._ending = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _connect(self) -> Any:
        """A connection of its own: one that waits for a value blocks its other users."""
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, timeout=COLLECTIVE, wait_for_workers=False)
        return dist.PrefixStore(f"mmprompt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)

    def agree(self, key: str, value: Any) -> Any:
        """The first process's value; plain data."""
        if self.rank == 0:
            self.store.set(key, json.dumps(value))
        return json.loads(self.store.get(key))

    def check_equal(self, trainer: Any) -> None:
        """All processes must do the same run.

        Raises:
            ValueError: one's settings, backbone or data differ from the first one's; in all processes.
        """
        own = {"config": trainer.cfg, "inputs": identity.inputs(trainer)}
        self.store.set(f"run/{self.rank}", json.dumps(own))
        first, *others = [json.loads(self.store.get(f"run/{rank}")) for rank in range(self.count)]
        for number, other in enumerate(others, start=1):
            found = identity.differences(first["config"], other["config"], identity.START)
            found += identity.differing_inputs(first["inputs"], other["inputs"])
            if found:
                raise WrongInput(f"process {number} differs from process 0: {identity.listed(found)}")

    def end_with(self, error: BaseException) -> None:
        """Tell the others why this process ends, and wait where it is they who have to say it."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending
        interrupted = isinstance(error, KeyboardInterrupt)
        if not interrupted and not (isinstance(error, DELIBERATE) and is_deliberate(error)):
            self.limit = LOST_AFTER_HINT  # perhaps the connection to a process that is gone
            time.sleep(self.limit + 2 * SIGN_EVERY + GRACE)  # the thread ends this process if it is so
        message = "terminated" if isinstance(error, SystemExit) else one_line(error)
        line = f"interrupted: {message}" if interrupted else f"error: process {self.rank}: {message}"
        with self._ending, contextlib.suppress(RuntimeError):
            self._stopped.set()
            if self.rank == 0:
                self.store.add("said", 1)
            self.store.set(f"end/{self.rank}", json.dumps([line, 130 if interrupted else 2]))
            if self.rank > 0:
                patience = time.monotonic() + 2 * GRACE
                while not self.store.check(["end/0"]) and time.monotonic() < patience:
                    time.sleep(0.1)
                if interrupted or isinstance(error, DELIBERATE):
                    self._leave("", 130 if interrupted else 2)

    def stop(self) -> None:
        """The run is done."""
        self._stopped.set()

    def _watch(self) -> None:
        store, others = self._connect(), [other for other in range(self.count) if other != self.rank]
        signs = dict.fromkeys(others, (-1, time.monotonic()))
        while not self._stopped.wait(SIGN_EVERY):
            try:
                store.add(f"sign/{self.rank}", 1)
                for other in others:
                    if (sign := store.add(f"sign/{other}", 0)) != signs[other][0]:
                        signs[other] = sign, time.monotonic()
                ended = [other for other in others if store.check([f"end/{other}"])]
                line, code = json.loads(store.get(f"end/{ended[0]}")) if ended else ("", 2)
            except RuntimeError:  # the store is with the first process, or with torchrun
                ended, line, code = [0], _lost([0], self.count), 2
            lost = [other for other in others if time.monotonic() - signs[other][1] > self.limit]
            if not ended and lost:
                ended, line = lost, _lost(lost, self.count)
            if ended and not self._stopped.wait(0 if lost else GRACE):
                with self._ending:
                    with contextlib.suppress(RuntimeError):
                        line = line if store.add("said", 1) == 1 else ""
                        store.set(f"end/{self.rank}", json.dumps([line, code]))
                    self._leave(line, code)

    def _leave(self, line: str, code: int) -> NoReturn:
        """End the process at once: its main thread may wait for one that does not come."""
        if line:
            print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _lost(ranks: list[int], count: int) -> str:
    which = f"process {ranks[0]}" if len(ranks) == 1 else f"processes {', '.join(map(str, ranks))}"
    return f"error: {which} of {count} lost; the same command continues the run"
