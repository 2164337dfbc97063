"""What the processes of a run find out before they train; tests/test_processes.py starts real ones."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import HashStore

from runs import ranks
from runs.ranks import Ranks


@pytest.fixture
def second_of_two(monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_there_is_one(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # a cluster's own variable, that of torchrun is not alone
    assert (ranks.count(), ranks.rank()) == (1, 0)
    with ranks.joined() as together:
        assert together is None


def test_torchrun_says_how_many_there_are(second_of_two):
    assert (ranks.count(), ranks.rank()) == (2, 1)


def test_a_process_without_a_gpu_of_its_own_is_told(second_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        ValueError, match=r"process 1 of this machine has no GPU: there are 1; .* USE_CUDA False"
    ):
        ranks.use_device(use_cuda=True)
    ranks.use_device(use_cuda=False)


def trainer(images=("a.png", "b.png"), backbone="0123", **settings):
    items = [SimpleNamespace(impath=path, label=i, domain=0) for i, path in enumerate(images)]
    dataset = SimpleNamespace(train_x=items, train_u=None, val=[], test=items, classnames=list(images))
    return SimpleNamespace(
        cfg={"SEED": 1} | settings, dm=SimpleNamespace(dataset=dataset), backbone_hash=backbone
    )


def compare(*trainers):
    """What the processes that built these trainers say, each in a thread."""
    store = HashStore()

    def say(rank):
        together = Ranks.__new__(Ranks)  # without a thread that watches
        together.rank, together.count, together.store = rank, len(trainers), store
        try:
            together.check_equal(trainers[rank])
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(trainers)) as pool:
        return list(pool.map(say, range(len(trainers))))


def test_equal_runs_pass():
    assert compare(trainer(), trainer(OUTPUT_DIR="elsewhere"), trainer()) == [None, None, None]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (trainer(SEED=2), "SEED: 1 -> 2"),
        (trainer(images=("a.png", "c.png")), "training images: "),
        (trainer(backbone="4567"), "backbone weights: 0123 -> 4567"),
    ],
)
def test_all_processes_name_the_one_that_differs(other, words):
    said = compare(trainer(), trainer(), other)
    assert len(set(said)) == 1
    assert said[0].startswith(f"process 2 differs from process 0: {words}")
