"""What is computed, as far as it can be told without computing it: the key of a capture."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def capture_key(function: Any, inputs: Sequence[Tensor], model: Any) -> Any:
    """The function, shapes and dtypes of its inputs, grad mode, autocast, and the state of the model that it uses."""
    device = inputs[0].device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    of_inputs = [(x.shape, x.dtype, x.device, x.stride()) for x in inputs]
    called = getattr(function, "__func__", function), id(getattr(function, "__self__", None))
    return called, torch.is_grad_enabled(), autocast, *of_inputs, *_state(model)


def _state(model: Any) -> Iterator[Any]:
    """What a model computes with: addresses of its tensors, its mode and plain attributes, others by identity."""
    yield model.class_texts.chunk, model.class_texts.memory
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            yield None if tensor is None else (tensor.data_ptr(), tensor.requires_grad)
        for name, value in vars(module).items():
            if not name.startswith("_"):
                yield value if isinstance(value, (bool, int, float, str)) else id(value)
