"""The pretended device notices what a real one would refuse, and what makes the host wait for it."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from tests.pretended_device import WouldWait, WrongDevice, pretended_device

if torch.cuda.is_available():
    pytest.skip("there is a real one", allow_module_level=True)


@pytest.fixture
def device():
    with pretended_device() as device:
        yield device


@pytest.fixture
def x(device):
    return torch.tensor([3.0, 1.0, 2.0]).to("cuda")


WAITS = {
    "item": lambda x: x.sum().item(),
    "a branch": lambda x: bool(x.any()),
    "tolist": lambda x: x.tolist(),
    "to the host": lambda x: x.cpu(),
    "to the host without blocking": lambda x: x.to("cpu", non_blocking=True),
    "into a tensor of the host": lambda x: torch.empty(3).copy_(x),
    "blocking from pinned memory": lambda x: torch.ones(3).pin_memory().to("cuda"),
    "from memory that is not pinned": lambda x: torch.ones(3).to("cuda", non_blocking=True),
    "into a tensor of the device": lambda x: x.copy_(torch.ones(3)),
    "a tensor of Python's numbers": lambda x: torch.tensor([1, 2], device="cuda"),
    "an index of Python's numbers": lambda x: x[[0, 2]],
    "an index of the host": lambda x: x[torch.tensor([0, 2])],
    "a mask as index": lambda x: x[x > 1],
    "a mask that is written to": lambda x: x.index_put_((x > 1,), torch.zeros((), device="cuda")),
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x),
    "bincount": lambda x: x.long().bincount(),
    "a size of the device": lambda x: x.expand(x.long()[0], 3),
    "synchronize": lambda x: torch.cuda.synchronize(),
    "a stream": lambda x: torch.cuda.Stream().synchronize(),
    "an event": lambda x: torch.cuda.Event().synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_in_a_step_is_an_error_that_names_the_line(name, device, x):
    with device.step(), pytest.raises(WouldWait, match=r"at tests/test_pretended_device\.py:\d+: "):
        WAITS[name](x)
    WAITS[name](x)  # elsewhere the host may wait


def test_a_wait_in_the_backward_pass_is_one(device, x):
    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    with device.step(), pytest.raises(WouldWait, match="return gradient"):
        Look.apply(x.requires_grad_()).sum().backward()


def test_what_does_not_wait_is_none(device, x):
    pinned = torch.ones(3).pin_memory()
    weight = torch.nn.Parameter(torch.ones(3, 3)).to("cuda").detach().requires_grad_()
    with device.step():
        y = pinned.to("cuda", non_blocking=True) + x * 2.0
        y = torch.where(y > 1, y, 0.0)[
            torch.tensor([0, 2], device="cpu").pin_memory().to("cuda", non_blocking=True)
        ]
        y = y.repeat_interleave(torch.arange(2, device="cuda") + 1, output_size=3)
        F.cross_entropy((y @ weight)[None], torch.zeros(1, dtype=torch.long, device="cuda")).backward()
    assert weight.grad.is_cuda
    assert weight.grad.device == x.device
    assert torch.isfinite(weight.grad).all()


WRONG = {
    "of both devices": lambda x: x + torch.ones(3),
    "stacked": lambda x: torch.stack([x, torch.ones(3)]),
    "a scalar of the host among others": lambda x: torch.cat([x, torch.ones(1)]),
    "drawn there": lambda x: torch.randn(3, device="cuda"),
    "drawn like another": lambda x: torch.randn_like(x),
    "drawn in place": lambda x: x.normal_(),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_real_device_refuses_or_draws_otherwise_is_an_error_at_any_time(name, x):
    with pytest.raises(WrongDevice, match=r"at tests/test_pretended_device\.py:\d+: "):
        WRONG[name](x)


def test_indices_and_tensors_of_pythons_numbers_have_these(x):
    assert x[[2, 0]].tolist() == [2.0, 3.0]
    assert x[..., [1]].tolist() == [1.0]
    x[[0, 1]] = 5.0
    x[-1] = 7.0
    assert x.tolist() == [5.0, 5.0, 7.0]
    assert x.new_tensor([1, 2]).tolist() == [1.0, 2.0]


def test_sizes_that_change_in_place_are_those_of_the_values(x):
    weight = torch.ones(3, 2).to("cuda").requires_grad_()
    (x @ weight)[None].sum().backward()  # a product of a vector squeezes its result in place
    assert weight.grad.tolist() == [[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]]


def test_a_scalar_of_the_host_may_take_part(x):
    assert (x * torch.tensor(2.0)).device == x.device


def test_results_are_those_of_the_cpu():
    def compute(device):
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(4, 3).to(device), torch.randn(5, 4).to(device)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(layer(x), torch.arange(5, device=device) % 3).backward()
            optimiser.step()
        return layer.weight.detach().cpu()

    expected = compute("cpu")
    with pretended_device():
        assert torch.equal(compute("cuda"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_is_that_of_a_gpu(dtype, device):
    x, weight = torch.randn(2, 4).to("cuda"), torch.randn(4, 4).to("cuda").requires_grad_()
    with torch.autocast("cuda", dtype=dtype):
        y = F.linear(x, weight)
        assert y.dtype == (x @ weight).dtype == dtype
        assert (
            y.softmax(-1).dtype == F.layer_norm(y, (4,)).dtype == y.exp().dtype == torch.float32
        )  # a CPU's: dtype
        assert (y + y).dtype == dtype
        with torch.autocast("cuda", enabled=False):
            assert (x @ weight).dtype == torch.float32
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def test_loading_and_saving_go_through_the_host(device, tmp_path):
    layer = torch.nn.Linear(2, 2).to("cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.save(layer.state_dict(), tmp_path / "file")
        saved = torch.load(tmp_path / "file", weights_only=True)
        other = torch.nn.Linear(2, 2).to("cuda")
        other.load_state_dict(saved)
    assert saved["weight"].device.type == "cpu"
    assert torch.equal(other.weight.cpu(), layer.weight.cpu())


def test_afterwards_there_is_no_device():
    with pretended_device():
        assert torch.cuda.is_available()
    assert not torch.cuda.is_available()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.ones(2).cuda()
