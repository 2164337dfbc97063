"""Weights from a file, without executing anything that is in it.

Three formats hold CLIP state dicts in OpenAI's key format: safetensors, ``torch.save`` files, and the TorchScript
archives that OpenAI published. The last are programs; only the tensors in them are read.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """State dict of a weights file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is none of the three formats, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {str(path)!r} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the three readers stumble over in a damaged file
        raise ValueError(
            f"{str(path)!r} is damaged, or no weights file (safetensors, plain tensors, TorchScript)"
        ) from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{str(path)!r} holds no state dict (names and tensors)")
    return {name.removeprefix("module."): value for name, value in weights.items()}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands for any class of a TorchScript archive: keeps its attributes, does nothing."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _ModuleReader(pickle.Unpickler):
    """Knows how to rebuild tensors; every other name in the pickle becomes an inert ``_Module``."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return partial(torch._utils._rebuild_tensor_v2)  # the pickle can set attributes of what it finds
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, requires_grad, hooks: data
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle":  # build_intlist and the like: typed lists
            return lambda data, *_: data
        if module.startswith("__torch__"):
            return type(name, (_Module,), {})
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: tuple) -> torch.storage.TypedStorage:
        _, dtype, key, _, _ = pid
        data = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        storage = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).rsplit("/", 1)[0]
        module = _ModuleReader(archive, root).load()
    weights: dict[str, Tensor] = {}

    def collect(node: _Module, prefix: str) -> None:
        for name, value in vars(node).items():
            if isinstance(value, Tensor):
                weights[prefix + name] = value
            elif isinstance(value, _Module):
                collect(value, f"{prefix}{name}.")

    collect(module, "")
    return weights
