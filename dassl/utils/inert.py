"""Reading a pickle without running it.

A pickle names classes and functions, and reading it calls them with arguments of the file's choice.
Checkpoints as Dassl writes them hold live optimiser and scheduler objects, so torch's ``weights_only``
refuses them. Here a name stands for what rebuilds tensors and plain containers, and every other name for a
class that only keeps what it is given: nothing of the file's choice is imported or called.
"""

import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch


class Inert:
    """Stands for an object that is not rebuilt; keeps its ``state`` and its ``items``."""

    state: Any
    items: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        self = super().__new__(cls)
        self.state = None
        self.items = []
        return self

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}, not rebuilt>"

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: Any) -> None:
        self.items.extend(items)

    add = append


def _numpy_scalar(dtype: np.dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype, count=1)[0]  # refuses arrays of objects


def _encode(text: str, encoding: str) -> bytes:
    return str.encode(text, encoding)  # how protocol 2 writes bytes


def _rebuild_parameter(data: torch.Tensor, requires_grad: bool, *_: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    # The file's further arguments (whether a gradient is wanted, hooks) concern training, not the values.
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
}
# Types of C code only: the file can set attributes on whatever a name stands for.
_TYPES: dict[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("numpy", "dtype"): np.dtype,
}
_BUILTINS = {t.__name__: t for t in (dict, list, set, frozenset, bytearray, complex, int, float, bool, str)}


class Unpickler(pickle.Unpickler):
    """``pickle.Unpickler`` whose names stand for rebuilders of plain data, or for :class:`Inert`.

    torch.load adds the lookup of the storages' types.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _FUNCTIONS:
            return partial(_FUNCTIONS[module, name])  # its own for each lookup, see _TYPES
        if (module, name) in _TYPES:
            return _TYPES[module, name]
        if module in ("builtins", "__builtin__") and name in _BUILTINS:
            return _BUILTINS[name]
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        return type(name.rpartition(".")[2], (Inert,), {"__module__": module})


def load(file: Any, **kwargs: Any) -> Any:
    """Read one pickle from a binary file, in ``pickle.load``'s place where this is the ``pickle_module``."""
    return Unpickler(file, **kwargs).load()
