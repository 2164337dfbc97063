"""From the CPU to a device, without waiting."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; the way to a GPU is not waited for.

    Raises:
        RuntimeError: a CUDA graph is being captured, which would copy from this memory again when it is gone.
    """
    if device.type != "cuda" or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
        return tensor.to(device)  # a capture refuses that
    return tensor.pin_memory().to(device, non_blocking=True)
