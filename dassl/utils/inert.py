"""Reading a pickle without running it.

A pickle names classes and functions, and reading it calls them with arguments of the file's choice.
Checkpoints as Dassl writes them hold live optimiser and scheduler objects, so torch's ``weights_only``
refuses them. Here a name stands for what rebuilds tensors and plain containers, and every other name for a
class that only keeps what it is given: nothing of the file's choice is imported or called.
"""

import pickle
import re
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


class _NumpyType(Inert):
    """Stands for a ``numpy.dtype``, whose own way to take a file's state is not made for files of others."""

    name, order = "", "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def rebuilt(self) -> Any:
        """The dtype of numbers; itself for others (objects, records, texts)."""
        if not re.fullmatch("[biufc][0-9]+", self.name):
            return self
        return np.dtype(f"{self.order if self.order in '<>' else '='}{self.name}")


class _NumpyArray(Inert):
    """Stands for an array until its state is known."""

    def rebuilt(self) -> Any:
        """The array of numbers; itself for others."""
        if self.state is None:
            return self
        _, shape, dtype, in_columns, data = self.state
        return _array(data, dtype, shape, "F" if in_columns else "C", instead=self)


def _numpy_type(name: str, *_: Any) -> Any:
    stands = _NumpyType()
    stands.name = name
    return stands


def _numpy_scalar(dtype: Any, data: bytes) -> Any:
    return _array(data, dtype, (1,), instead=[Inert()])[0]


def _numpy_reconstruct(*_: Any) -> Any:
    return _NumpyArray()


def _array(data: Any, dtype: _NumpyType, shape: Any, order: Any = "C", instead: Any = None) -> Any:
    numbers = dtype.rebuilt()
    if not isinstance(numbers, np.dtype):
        return Inert() if instead is None else instead
    return np.frombuffer(data, numbers).reshape(shape, order=order).copy(order)


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
    ("numpy", "dtype"): _numpy_type,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # NumPy 1, NumPy 2
        for module, name, function in (
            ("multiarray", "scalar", _numpy_scalar),
            ("multiarray", "_reconstruct", _numpy_reconstruct),
            ("numeric", "_frombuffer", _array),
        )
    },
}
# Types of C code only: the file can set attributes on whatever a name stands for.
_TYPES: dict[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
}
_BUILTINS = {
    t.__name__: t for t in (dict, list, set, frozenset, bytes, bytearray, complex, int, float, bool, str)
}


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

    def load(self) -> Any:
        return _rebuilt(super().load(), {})


def _rebuilt(value: Any, seen: dict[int, Any]) -> Any:
    """The same with NumPy's arrays and types for what stands for them; containers are changed in place."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, (_NumpyType, _NumpyArray)):
        seen[id(value)] = result = value.rebuilt()
        return result
    seen[id(value)] = value
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _rebuilt(item, seen)
    elif isinstance(value, list):
        value[:] = [_rebuilt(item, seen) for item in value]
    elif isinstance(value, Inert):
        value.state, value.items = _rebuilt(value.state, seen), _rebuilt(value.items, seen)
    elif type(value) is tuple:
        items = tuple(_rebuilt(item, seen) for item in value)
        if any(new is not old for new, old in zip(items, value)):
            seen[id(value)] = items
            return items
    return value


def load(file: Any, **kwargs: Any) -> Any:
    """Read one pickle from a binary file, in ``pickle.load``'s place where this is the ``pickle_module``."""
    return Unpickler(file, **kwargs).load()
