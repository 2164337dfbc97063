"""Batches on their way to a device: what a trainer gets is on the CPU, and what it sends is there already."""

import pytest
import torch

from dassl.engine.prefetch import Sender
from tests.pretended_device import WouldWait, pretended_device


@pytest.fixture
def device():
    if torch.cuda.is_available():
        pytest.skip("there is a real one (tests/gpu)")
    with pretended_device() as device:
        yield device


def pinned():
    return {
        "img": torch.arange(24.0).view(2, 3, 2, 2).pin_memory(),
        "label": torch.tensor([1, 0]).pin_memory(),
        "impath": ["a.png", "b.png"],
    }


def test_on_a_cpu_a_batch_stays_what_it_is():
    batch = {"img": torch.zeros(1), "impath": ["a.png"]}
    assert Sender(torch.device("cpu"))(batch) is batch


@pytest.mark.parametrize(
    "send",
    [
        lambda tensor: tensor.to("cuda"),
        lambda tensor: tensor.to(torch.device("cuda")),
        lambda tensor: tensor.to(device="cuda:0"),
        lambda tensor: tensor.to("cuda", non_blocking=True),
        lambda tensor: tensor.cuda(),
        lambda tensor: tensor.cuda(0, non_blocking=True),
    ],
)
def test_an_unedited_plugin_does_not_wait(send, device):
    before = pinned()
    with device.step(), pytest.raises(WouldWait, match="a blocking copy"):
        pinned()["img"].to("cuda")
    with device.step():
        batch = Sender(torch.device("cuda"))(before)
        there = [send(batch[key]) for key in ("img", "label")]
    assert [tensor.device.type for tensor in there] == ["cuda", "cuda"]
    assert [tensor.tolist() for tensor in there] == [before["img"].tolist(), before["label"].tolist()]
    assert send(batch["img"]) is there[0]


def test_a_batch_can_be_used_on_the_cpu_as_before(device):
    before = pinned()
    batch = Sender(torch.device("cuda"))(before)
    assert batch.keys() == before.keys()
    assert batch["impath"] == before["impath"]
    assert batch["label"].device.type == "cpu"
    assert batch["label"].numpy().tolist() == [1, 0]
    assert type(batch["img"] * 2) is torch.Tensor
    assert batch["img"].to(torch.float64).dtype == torch.float64
    assert batch["img"].to("cuda", torch.float64).dtype == torch.float64
    assert batch["img"].to("cpu").device.type == "cpu"
    assert batch["img"].to(batch["label"]).dtype == torch.long


def test_pairs_and_lists_of_views_are_sent(device):
    views = Sender(torch.device("cuda"))(
        ({"img": [torch.ones(1).pin_memory()] * 2}, {"img": pinned()["img"]})
    )
    with device.step():
        assert [view.to("cuda").device.type for view in views[0]["img"]] == ["cuda", "cuda"]
        assert views[1]["img"].to("cuda").device.type == "cuda"


def test_what_the_batch_holds_is_sent_once(device):
    batch = Sender(torch.device("cuda"))(pinned())
    before = device.operations
    for _ in range(3):
        batch["img"].to("cuda")
    assert device.operations == before
