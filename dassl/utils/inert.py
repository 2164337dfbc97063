"""Reading a pickle without running it.

A pickle names classes and functions, and reading it calls them with arguments of the file's choice. Checkpoints as
Dassl writes them hold live optimiser and scheduler objects, so torch's ``weights_only`` refuses them. Here a name
stands for what rebuilds tensors and plain containers, and every other name for a class that only keeps what it is
given: nothing of the file's choice is imported or called.
"""

import pickle
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import torch


class Inert:
    """Stands for an object of a class that is not rebuilt; its state lies in ``state``, its items in ``items``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        self = super().__new__(cls)
        self.state: Any = None
        self.items: list[Any] = []
        return self

    def __init__(self, *args: Any, **kwargs: Any):
        pass

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


def _rebuild_parameter(data: torch.Tensor, requires_grad: bool, hooks: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    # The file's further arguments (gradients wanted, hooks) concern training, not the values.
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


_REBUILDERS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
}
_BUILTINS = {
    kind.__name__: kind for kind in (dict, list, set, frozenset, bytearray, complex, int, float, bool, str)
}


class Unpickler(pickle.Unpickler):
    """``pickle.Unpickler`` whose names stand for rebuilders of plain data, or for :class:`Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REBUILDERS:
            return _REBUILDERS[module, name]
        if module in ("builtins", "__builtin__") and name in _BUILTINS:
            return _BUILTINS[name]
        if module in ("torch", "torch.storage"):
            value = getattr(torch.storage if module == "torch.storage" else torch, name, None)
            if isinstance(value, torch.dtype) or (isinstance(value, type) and name.endswith("Storage")):
                return value
        return type(name.rpartition(".")[2], (Inert,), {"__module__": module})

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("persistent ids mean something only inside a torch file")


def load(file: Any, **kwargs: Any) -> Any:
    """Read one pickle from an open binary file (``pickle.load``'s place when this module is a ``pickle_module``)."""
    return Unpickler(file, **kwargs).load()
