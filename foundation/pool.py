"""Processes that share a program's work, and do not outlive it."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import parent_process


def process_pool(processes: int) -> ProcessPoolExecutor:
    """A pool whose processes leave Ctrl-C to the program, and end with it, also when it is killed.

    A pool of multiprocessing would end them by SIGTERM, and wait for ever where they have a handler of it that goes on.
    """
    return ProcessPoolExecutor(processes, initializer=_begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_program, daemon=True).start()


def _end_with_the_program() -> None:
    """A killed program tells nobody, and they would wait for its next task for ever."""
    program = parent_process()
    assert program is not None
    program.join()
    os._exit(1)
