"""Index tensors are made once for a forest of texts, and looked up from then on.

A lookup table is bounded, so what stands in it may go. Whoever reads the memory of what was looked up after the call,
as a CUDA graph does in every replay, keeps it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

MOST = 128  #: entries of a table
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_keepers: list[list[Any]] = []


class looked_up(Generic[Arguments, Result]):
    """The function, with a table of its latest results."""

    def __init__(self, function: Callable[Arguments, Result]) -> None:
        self._table: Any = lru_cache(maxsize=MOST)(function)
        update_wrapper(self, function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        found = self._table(*args, **kwargs)
        for keeper in _keepers:
            keeper.append(found)
        return found

    def cache_clear(self) -> None:
        self._table.cache_clear()


@contextmanager
def kept() -> Iterator[list[Any]]:
    """All that is looked up in the body, by whatever thread: backward passes have one of their own."""
    keeper: list[Any] = []
    _keepers.append(keeper)
    try:
        yield keeper
    finally:
        _keepers[:] = [other for other in _keepers if other is not keeper]
