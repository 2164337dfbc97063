"""Records what a GPU computes as CUDA graphs, which are replayed with one launch each."""

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

#: What ends an allocator's part in a capture, in torch 2.7 and later, and before.
ENDS = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
_abandoned: list[
    Any
] = []  # the allocator of pinned memory goes on asking these whether they are being captured


class Recorder(Protocol):
    """What can record: a GPU."""

    def beside(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, computed where recordings are made: allocations and libraries are then prepared."""

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """A function that does again what ``call`` does, and what ``call`` returns: tensors that it then sets anew."""

    def release(self) -> None:
        """Give back the memory of recordings that are gone."""

    def random_state(self) -> Tensor:
        """Of the generator whose numbers a replay draws anew."""

    def set_random_state(self, state: Tensor) -> None: ...


class CUDARecorder:
    """Records CUDA graphs on a stream of its own. All of them share their memory: one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self.index = torch.cuda.current_device() if device.index is None else device.index
        self.stream = torch.cuda.Stream(self.index)
        self.pool: Any = None
        self._keeper: Any = None

    def beside(self, call: Callable[[], Any]) -> Any:
        current = torch.cuda.current_stream(self.index)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = call()
        current.wait_stream(self.stream)
        torch.cuda.synchronize(self.index)  # its tensors may now be used, and freed, on any stream
        return result

    def record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
            # A pool lives as long as a graph that uses it, and cannot be revived: this one is kept.
            self._keeper = self._record(lambda: torch.zeros(1, device=f"cuda:{self.index}"))
        return self._record(call)

    def _record(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        graph, generator = torch.cuda.CUDAGraph(), torch.cuda.default_generators[self.index]
        spare = generator.clone_state()
        torch.cuda.synchronize(self.index)
        torch.cuda.empty_cache()
        collecting = gc.isenabled()
        gc.disable()  # it might free what must not be freed during a capture
        try:
            # torch.cuda.graph would leave the thread on this stream where the end of a failed capture fails, too.
            with torch.cuda.stream(self.stream):
                # The data loader's pinning thread and NCCL's watchdog call CUDA meanwhile; they are no part of it.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    result = call()
                except BaseException:
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
        except BaseException:
            self._abandon(graph)
            generator.graphsafe_set_state(spare)  # the other one may still believe that it is being captured
            raise
        finally:
            if collecting:
                gc.enable()
        return graph.replay, result

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a capture that failed.

        Where the device has given it up (something waited), torch before 2.14 leaves the allocator in the middle of
        it: from then on no memory that two streams have used becomes free, which is that of every batch.
        """
        with suppress(RuntimeError):
            graph.reset()
        for name in ENDS:
            with suppress(AttributeError, RuntimeError):  # there is none of that name; it has ended
                getattr(torch._C, name)(self.index, self.pool)
                torch._C._cuda_releasePool(self.index, self.pool)
                _abandoned.append(graph)
                self.pool = self._keeper = (
                    None  # that of pinned memory still records to it: the next one is another
                )
                return

    def release(self) -> None:
        self.pool = self._keeper = None  # others that still use it keep it
        torch.cuda.empty_cache()

    def random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self.index)

    def set_random_state(self, state: Tensor) -> None:
        torch.cuda.set_rng_state(state, self.index)
