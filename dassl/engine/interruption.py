"""Ctrl-C and SIGTERM between two batches, and not in the middle of a step."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Inside the context, the first of these signals waits for the end of the step; a second one acts at once.

    A signal that is ignored stays so. Without effect in another than the main thread, which gets no signals.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._asked: int | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal waits."""
        return self._asked is not None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # None: a handler that python does not know
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked = number
        else:
            self.act()

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Pass batches on until a signal waits."""
        try:
            for batch in batches:
                yield batch
                if self.asked:
                    return
        except RuntimeError:
            # A terminal's Ctrl-C reaches data loader workers, too; they end, and are missed when waited for.
            if not self.asked:
                raise

    def act(self) -> None:
        """Do what the signal would have done outside of the context."""
        number = self._asked
        self.__exit__()
        if number is not None:
            signal.raise_signal(number)
