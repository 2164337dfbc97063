"""A CUDA device that is only pretended, so that what goes wrong on a GPU alone is red without one.

Its tensors lie in the main memory, are computed there, and claim to be on "cuda": they have that device's autograd and
autocast, take part in no operation with a tensor of the CPU, and code that asks them for their device goes the way of a
GPU. Every operation passes through Python on its way, so within ``step()`` whatever would make the host wait for the
device is an error that names the line of this checkout:

* a value of the device that Python needs: ``.item()``, ``if tensor:``, ``tolist()``, ``equal``;
* a result whose shape depends on values: ``nonzero``, ``masked_select``, ``unique``, a boolean mask as an index,
  ``repeat_interleave`` without its size;
* a copy from the device to the host, or a blocking one to the device, or one from memory that is not pinned;
* ``torch.cuda.synchronize``, and that of a stream or an event.

A tensor on the wrong device, and random numbers drawn on the device (a seed would mean another start there), are errors
at any time.

What is not as on a device: operators that have no kernel for CPUs (Triton's) return zeros of the right shape, and are
listed in ``stood_in``; kernels are those of the CPU, so rounding is; streams and events order nothing.
"""

import contextlib
import functools
import traceback
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.conftest import ROOT

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
#: What C++ takes the tensors for: a device without streams of its own, as autograd of a torch built for GPUs asks a
#: CUDA device for its streams.
WITHIN = torch.device("meta")
aten = torch.ops.aten
DEVICE_OF = torch.ops.prim.device.default  #: C++ asks for a tensor's device

COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
NEEDS_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
PRODUCTS = {
    *(aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default),
}
EVEN_ON_A_DEVICE = {aten.bincount.default, aten.histc.default}  # wait too, without saying so in a tag


class Operator(NamedTuple):
    """What is asked about each of a million operations."""

    name: str
    draws: bool
    copies: bool
    indexes: bool
    pointwise: bool  #: takes numbers of the host beside tensors
    needs_values: bool
    is_product: bool
    is_torchs: bool

    @staticmethod
    @functools.cache
    def of(func: Any) -> "Operator":
        name, tags = func.name(), set(func.tags)
        return Operator(
            name,
            draws=torch.Tag.nondeterministic_seeded in tags and "scaled_dot_product" not in name,
            copies=func in COPIES,
            indexes=func in INDEXING,
            pointwise=torch.Tag.pointwise in tags,
            needs_values=bool(NEEDS_VALUES & tags) or func in EVEN_ON_A_DEVICE,
            is_product=func in PRODUCTS,
            is_torchs=func.namespace in ("aten", "prim", "prims"),
        )


class WouldWait(Exception):
    """A step would make the host wait for the device."""


class WrongDevice(Exception):
    """What a real device would refuse, or do in another way than the CPU."""


class OnDevice(Tensor):
    """A tensor that claims to be on "cuda"; ``held`` has its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnDevice":
        tensor = Tensor._make_subclass(cls, values, False, dispatch_device=True, device_for_backend_keys=CUDA)
        tensor.held = values
        return tensor

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        return self.cpu().tolist()

    # For numbers of Python C++ makes a tensor on this one's device, which it takes for one without memory.

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_index(index), value)

    def new_tensor(self, data: Any, **options: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, **{"dtype": self.dtype, "device": CUDA, **options})

    def record_stream(self, stream: Any) -> None:
        """Nothing to order."""

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """A tensor that is already there stays itself."""
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, _, memory_format = torch._C._nn._parse_to(
            *args, **{k: v for k, v in kwargs.items() if k != "copy"}
        )
        there = device is None or device.type == "cuda"
        if there and dtype in (None, self.dtype) and memory_format is None and not kwargs.get("copy", False):
            return self
        return super().to(*args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # files are read onto the CPU, whatever wrote them

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = OnDevice(self.held.clone())
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copy, self.requires_grad)
        return copy

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return WITHIN if func is DEVICE_OF else _ALWAYS.run(func, args, kwargs or {})


def _rounded(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """A product of 16 bits as a GPU computes it, with sums in fp32; most CPUs take up to a hundred times as long."""
    wide = [part.float() if isinstance(part, Tensor) else part for part in args]
    return func(*wide, **kwargs).to(args[0].dtype)


def _reshaped(tensor: OnDevice, values: Tensor) -> OnDevice:
    """With the sizes that its values may have got (by ``squeeze_``)."""
    if (tensor.shape, tensor.stride()) != (values.shape, values.stride()):
        with torch._C._DisableTorchDispatch():
            aten.as_strided_.default(tensor, values.shape, values.stride(), values.storage_offset())
    return tensor


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.tensor(index, device=CUDA) if isinstance(index, (list, range, np.ndarray)) else index


class PretendedDevice(TorchDispatchMode):
    """Computes what is on the device, and watches what would go wrong there.

    Attributes:
        stood_in: names of the operators that returned zeros.
        operations: number of operations that ran on the device.
    """

    use_cuda = True

    def __init__(self) -> None:
        super().__init__()
        self.in_step = False
        self.stood_in: set[str] = set()
        self.operations = 0
        self._pinned: dict[int, Any] = {}

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """In here nothing may wait."""
        self.in_step = True
        try:
            yield
        finally:
            self.in_step = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and torch's guard against it takes half of the time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return WITHIN if func is DEVICE_OF else self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """One operation, of tensors anywhere."""
        there: dict[int, OnDevice] = {}
        here: list[Tensor] = []

        def values(part: Any) -> Any:
            if isinstance(part, OnDevice):
                there[id(part.held)] = part
                return part.held
            if isinstance(part, Tensor):
                here.append(part)
            elif type(part) in (list, tuple):
                return type(part)(map(values, part))
            return part

        plain_args = [values(part) for part in args]
        plain_kwargs = {name: values(part) for name, part in kwargs.items()} if kwargs else {}
        device = kwargs.get("device")
        on_device = bool(there) if device is None else device.type in ("cuda", "meta")
        if func is aten._pin_memory.default or func is aten.is_pinned.default:
            return self._pinning(func, plain_args[0], on_device)
        if device is not None:
            plain_kwargs["device"] = CPU
        if pin := plain_kwargs.get("pin_memory"):
            plain_kwargs["pin_memory"] = False
        if not there and not on_device:
            result = func(*args, **plain_kwargs)
            return self._pin(result) if pin else result
        about = Operator.of(func)
        self.operations += 1
        self._check(func, about, args, kwargs, there, here, on_device)
        result = self._compute(func, about, plain_args, plain_kwargs)
        if pin:
            self._pin(result)

        def claim(part: Any) -> Any:
            if isinstance(part, Tensor):
                if id(part) in there:  # written in place
                    return _reshaped(there[id(part)], part)
                return OnDevice(part) if on_device and not any(part is other for other in here) else part
            return type(part)(map(claim, part)) if isinstance(part, (list, tuple)) else part

        return claim(result)

    def _compute(self, func: Any, about: Operator, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if about.is_torchs:
            try:
                if about.is_product and args[0].dtype in (torch.float16, torch.bfloat16):
                    return _rounded(func, args, kwargs)
                return func(*args, **kwargs)
            except NotImplementedError:  # no kernel for CPUs
                pass
        self.stood_in.add(about.name)

        def on(device: torch.device, part: Any) -> Any:
            if isinstance(part, (list, tuple)):
                return type(part)(on(device, each) for each in part)
            if not isinstance(part, Tensor):
                return part
            return part.to("meta") if device == WITHIN else torch.zeros_like(part, device=device)

        shapes = func(*on(WITHIN, args), **{name: on(WITHIN, part) for name, part in kwargs.items()})
        return on(CPU, shapes)

    def _check(
        self,
        func: Any,
        about: Operator,
        args: Any,
        kwargs: Any,
        there: dict[int, OnDevice],
        here: list[Tensor],
        on_device: bool,
    ) -> None:
        name = about.name
        if about.draws:
            raise WrongDevice(f"{name} draws random numbers on the device, {_line()}")
        if about.copies:
            self._check_copy(func, args, kwargs, on_device)
            return
        strays = [tensor for tensor in here if tensor.dim() or not about.pointwise]
        if about.indexes:
            masks = [
                index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)
            ]
            if masks:
                self._wait(f"{name} with a boolean mask")
            if any(index is stray for stray in strays for index in args[1]):
                self._wait(f"{name} copies its index to the device")
            strays = [
                stray for stray in strays if not any(stray is index for index in args[1]) and stray.dim()
            ]
        elif func is aten.repeat_interleave.Tensor:
            if kwargs.get("output_size") is None:
                self._wait(f"{name} without output_size")
        elif there and about.needs_values:
            self._wait(f"{name} needs values of the device")
        if there and strays:
            raise WrongDevice(
                f"{name} has tensors on cuda and one on the CPU, of shape {tuple(strays[0].shape)}, {_line()}"
            )

    def _check_copy(self, func: Any, args: Any, kwargs: Any, on_device: bool) -> None:
        if func is aten.copy_.default:
            target, source = args[:2]
            non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
            to_device = isinstance(target, OnDevice)
        else:
            source, to_device, non_blocking = args[0], on_device, kwargs.get("non_blocking", False)
        from_device = isinstance(source, OnDevice)
        if from_device == to_device:
            return
        if from_device:
            self._wait("a copy from the device")
        elif not non_blocking:
            self._wait("a blocking copy to the device")
        elif not self._is_pinned(source):
            self._wait("a copy to the device from memory that is not pinned")

    def _wait(self, what: str) -> None:
        if self.in_step:
            raise WouldWait(f"{what}, {_line()}")

    def wait(self, what: str) -> Any:
        """A function in place of one that waits."""
        return lambda *_, **__: self._wait(what)

    def _pinning(self, func: Any, tensor: Tensor, on_device: bool) -> Any:
        if func is aten.is_pinned.default:
            return not on_device and self._is_pinned(tensor)
        if on_device:
            raise WrongDevice(f"only memory of the CPU can be pinned, {_line()}")
        return self._pin(tensor.clone())

    def _pin(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._pinned[storage.data_ptr()] = storage  # held, so that its address is nobody else's
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned


#: Of the operators that autocast knows on a GPU, those that run in half precision there, and those that take the widest
#: of their inputs' dtypes; the others run in fp32. C++ has them too, but casts only what it takes for a GPU's tensor.
HALF = set(
    """
    _convolution addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc conv_transpose1d
    conv_transpose2d conv_transpose3d convolution einsum gru_cell linalg_multi_dot linalg_vecdot linear lstm_cell matmul
    mm mv prelu rnn_relu_cell rnn_tanh_cell scaled_dot_product_attention
    """.split()  # noqa: SIM905  a list of words
)
WIDEST = {
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "scatter_add"),
    *("tensordot", "vdot"),
}
WITHOUT_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)


@functools.cache
def _autocast() -> torch.library.Library:
    """Autocast for the pretended device, by GPUs' rules; made once."""
    library = torch.library.Library("aten", "IMPL", "AutocastCUDA")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that GPUs' own kernels are replaced, which nothing here can run
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"):
            if not name.startswith("aten::"):
                continue
            packet, _, overload = name.removeprefix("aten::").partition(".")
            operator = getattr(getattr(aten, packet), overload or "default")
            library.impl(operator, functools.partial(_cast_and_call, operator, packet), "AutocastCUDA")
    return library


def _cast_and_call(operator: Any, packet: str, *args: Any, **kwargs: Any) -> Any:
    def cast(part: Any, dtype: torch.dtype) -> Any:
        if isinstance(part, (list, tuple)):
            return type(part)(cast(each, dtype) for each in part)
        castable = isinstance(part, OnDevice) and part.is_floating_point() and part.dtype != torch.float64
        return part.to(dtype) if castable else part

    with torch._C._ExcludeDispatchKeyGuard(WITHOUT_AUTOCAST):
        dtype = torch.float32
        if packet in HALF:
            dtype = torch.get_autocast_dtype("cuda")
        elif packet in WIDEST and not any(
            isinstance(part, Tensor) and part.dtype == dtype for part in tree_leaves((args, kwargs))
        ):
            return operator(*args, **kwargs)
        return operator(*cast(args, dtype), **{name: cast(part, dtype) for name, part in kwargs.items()})


_ALWAYS = PretendedDevice()  # for what reaches a tensor while no device is pretended


def _line() -> str:
    """The innermost line of this checkout that is no test's."""
    for frame in reversed(traceback.extract_stack()):
        path = frame.filename
        ours = path.startswith(f"{ROOT}/") and "site-packages" not in path
        if ours and not path.startswith(f"{ROOT}/tests/pretended_device"):
            return f"at {path.removeprefix(f'{ROOT}/')}:{frame.lineno}: {frame.line}"
    return "outside of this checkout"


class _Stream:
    """Orders nothing: all is computed at once."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def wait_stream(self, other: Any) -> None: ...
    def wait_event(self, event: Any) -> None: ...
    def record_event(self, event: Any = None) -> Any:
        return event or _Event()


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def wait(self, stream: Any = None) -> None: ...


def _indexed(function: Any) -> Any:
    """A function of a device with that's index: a torch built for CPUs cannot ask for the current one."""

    anywhere = torch.device("cuda")

    def with_index(part: Any) -> Any:
        return CUDA if isinstance(part, (str, torch.device)) and part in ("cuda", anywhere) else part

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*map(with_index, args), **{name: with_index(part) for name, part in kwargs.items()})

    return call


@contextlib.contextmanager
def pretended_device(memory: int = 80 * 2**30) -> Iterator[PretendedDevice]:
    """In here ``torch.cuda`` has one device, of which all but the kernels are pretended.

    Args:
        memory: its bytes, all free.
    """
    if not hasattr(torch._C, "_ensureCUDADeviceGuardSet"):
        pytest.skip(f"torch {torch.__version__} has no place for a device that is only pretended")
    torch._C._ensureCUDADeviceGuardSet()
    _autocast()
    device = PretendedDevice()
    about = SimpleNamespace(
        name="a pretended device", major=9, minor=0, multi_processor_count=132, total_memory=memory
    )
    answers = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: about.name,
        "get_device_capability": lambda device=None: (about.major, about.minor),
        "get_device_properties": lambda device=None: about,
        "mem_get_info": lambda device=None: (memory, memory),
        "empty_cache": lambda: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "get_rng_state_all": lambda: [torch.zeros(16, dtype=torch.uint8)],
        "set_rng_state_all": lambda states: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "synchronize": device.wait("torch.cuda.synchronize"),
        "current_stream": lambda device=None: _Stream(),
        "stream": lambda stream: contextlib.nullcontext(),
        "device": lambda device: contextlib.nullcontext(),
        "Stream": type("Stream", (_Stream,), {"synchronize": device.wait("a stream's synchronize")}),
        "Event": type("Event", (_Event,), {"synchronize": device.wait("an event's synchronize")}),
        "_lazy_init": lambda: None,
    }
    memory_queries = ("memory_reserved", "memory_allocated", "max_memory_allocated", "max_memory_reserved")
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, answer)
        for name in memory_queries:
            patch.setattr(torch.cuda, name, lambda device=None: 0)
        patch.setattr(torch.accelerator, "is_available", lambda *_: True)
        for owner, name in ((Tensor, "to"), (torch, "tensor"), (torch, "as_tensor")):
            patch.setattr(owner, name, _indexed(getattr(owner, name)))
        patch.setattr(Tensor, "cuda", lambda tensor, device=None, **options: tensor.to(CUDA, **options))
        replaced = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(
            True
        )  # or parameters would stay of the CPU's kind
        lifting = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(
            True
        )  # torch.tensor(..., device=...): made on the CPU, then copied
        try:
            with device:
                yield device
        finally:
            torch._C._set_only_lift_cpu_tensors(lifting)
            torch.__future__.set_overwrite_module_params_on_conversion(replaced)
