"""Batches on their way to a GPU, beside what it computes."""

from typing import Any

import torch

__all__ = ["Sender"]


class SentTensor(torch.Tensor):
    """A tensor of a batch on the CPU, with its copy on the device, which ``to`` and ``cuda`` return."""

    copy: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # results are plain tensors

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As of any tensor; the copy where nothing but its device is asked for."""
        only_device = not args[1:] and not kwargs.keys() - {"device", "non_blocking"}
        device = args[0] if args else kwargs.get("device")
        return self.copy if only_device and _is_there(self.copy, device) else super().to(*args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        device = args[0] if args else kwargs.get("device")
        return (
            self.copy
            if _is_there(self.copy, "cuda" if device is None else device)
            else super().cuda(*args, **kwargs)
        )


def _is_there(tensor: torch.Tensor, device: Any) -> bool:
    if isinstance(device, int):
        device = torch.device("cuda", device)
    if not isinstance(device, (str, torch.device)):
        return False
    device = torch.device(device)
    index = torch.cuda.current_device() if device.index is None and device.type == "cuda" else device.index
    return (device.type, index) == (tensor.device.type, tensor.device.index)


class Sender:
    """Sends batches to a CUDA device on a stream of their own.

    A training step does not wait for the device, so while that computes one step the next batch is under way. What a
    trainer gets is what it would get without this: tensors on the CPU. It sends them as it always did
    (``batch["img"].to(self.device)``), which is then done.

    On another device batches stay what they are.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stream: Any = (
            None  # made when it is needed: the data loader's workers start from a process without CUDA
        )

    def __call__(self, batch: Any) -> Any:
        """The batch, of tensors in dicts, lists and tuples."""
        if self.device.type != "cuda":
            return batch
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        current = torch.cuda.current_stream(self.device)
        sent: list[torch.Tensor] = []
        with torch.cuda.stream(self._stream):
            batch = self._send(batch, sent)
        current.wait_stream(self._stream)  # the device does, not the host
        for tensor in sent:
            tensor.record_stream(current)  # its memory is free when that has used it
        return batch

    def _send(self, part: Any, sent: list[torch.Tensor]) -> Any:
        if isinstance(part, dict):
            return {key: self._send(value, sent) for key, value in part.items()}
        if type(part) in (list, tuple):
            return type(part)(self._send(value, sent) for value in part)
        if type(part) is not torch.Tensor or part.device.type != "cpu":
            return part
        tensor = part.as_subclass(SentTensor)
        tensor.copy = part.to(self.device, non_blocking=True)
        sent.append(tensor.copy)
        return tensor
