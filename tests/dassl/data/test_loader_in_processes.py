"""The batches that several processes get are, together, those of one."""

import pytest
import torch
from torch.utils.data import RandomSampler, SequentialSampler

import foundation.processes
from dassl.data import build_data_loader
from dassl.data.loader import EpochLoader
from dassl.utils import collectives, set_random_seed
from tests.dassl.data.test_loader import Draws


def epoch(monkeypatch, rank, count, batch_size, whole_batches):
    """[(indices, random numbers)] of a process."""
    for module in (collectives, foundation.processes):
        monkeypatch.setattr(module, "count", lambda: count)
        monkeypatch.setattr(module, "rank", lambda: rank)
    data = Draws()
    sampler = SequentialSampler(data) if whole_batches else RandomSampler(data)
    loader = EpochLoader(data, batch_size, sampler, drop_last=not whole_batches, whole_batches=whole_batches)
    set_random_seed(1)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert loader.batches_of_all == len(loader.batch_sampler)
    return batches


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batch_size", [4, 5])
def test_in_training_each_has_its_part_of_every_batch(count, batch_size, monkeypatch):
    one = epoch(monkeypatch, 0, 1, batch_size, whole_batches=False)
    parts = [epoch(monkeypatch, rank, count, batch_size, whole_batches=False) for rank in range(count)]
    for number, (indices, draws) in enumerate(one):
        theirs = [part[number] for part in parts]
        assert max(len(i) for i, _ in theirs) - min(len(i) for i, _ in theirs) <= 1
        assert torch.equal(torch.cat([i for i, _ in theirs]), indices)
        assert torch.equal(torch.cat([numbers for _, numbers in theirs]), draws)  # the same augmentations


@pytest.mark.parametrize("count", [2, 3, 5])
def test_in_evaluation_they_take_turns_and_each_has_as_many(count, monkeypatch):
    one = epoch(monkeypatch, 0, 1, 5, whole_batches=True)  # three batches
    parts = [epoch(monkeypatch, rank, count, 5, whole_batches=True) for rank in range(count)]
    assert len({len(part) for part in parts}) == 1
    in_turn = [batch for round_ in zip(*parts) for batch in round_]
    assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in zip(one, in_turn))
    repeated = in_turn[len(one) :]
    assert all(torch.equal(batch[0], one[-1][0]) for batch in repeated)


def test_more_processes_than_images_are_refused(cfg, items, monkeypatch):
    monkeypatch.setattr(collectives, "count", lambda: 4)
    with pytest.raises(
        ValueError, match=r"4 processes cannot share batches of 3 images .*TRAIN_X\.BATCH_SIZE"
    ):
        build_data_loader(cfg, "RandomSampler", items, batch_size=3)
    assert build_data_loader(cfg, "SequentialSampler", items, batch_size=3, is_train=False)
