import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from torch.utils.data import RandomSampler, SequentialSampler

from dassl.data.samplers import build_sampler


@dataclass
class Item:
    label: int
    domain: int


ITEMS = [Item(label=i % 5, domain=(i * 7) % 3) for i in range(60)]


def batches(sampler, size):
    order = list(sampler)
    assert len(order) % size == 0
    return [order[i : i + size] for i in range(0, len(order), size)]


def test_plain_samplers():
    assert isinstance(build_sampler("RandomSampler", data_source=ITEMS), RandomSampler)
    assert isinstance(build_sampler("SequentialSampler", data_source=ITEMS), SequentialSampler)


def test_random_domain_batches():
    sampler = build_sampler("RandomDomainSampler", data_source=ITEMS, batch_size=8, n_domain=2)
    random.seed(0)
    for batch in batches(sampler, 8):
        assert sorted(Counter(ITEMS[i].domain for i in batch).values()) == [4, 4]
    order = list(sampler)
    assert len(order) == len(set(order))


@pytest.mark.parametrize("n_domain", [0, -1, None])
def test_all_domains_by_default(n_domain):
    sampler = build_sampler("RandomDomainSampler", data_source=ITEMS, batch_size=6, n_domain=n_domain)
    assert all(len({ITEMS[i].domain for i in batch}) == 3 for batch in batches(sampler, 6))


def test_domains_in_sequence():
    sampler = build_sampler("SeqDomainSampler", data_source=ITEMS, batch_size=6)
    for batch in batches(sampler, 6):
        assert [ITEMS[i].domain for i in batch] == [0, 0, 1, 1, 2, 2]
    assert len(sampler) == 60


def test_random_class_batches():
    sampler = build_sampler("RandomClassSampler", data_source=ITEMS, batch_size=12, n_ins=4)
    for batch in batches(sampler, 12):
        assert sorted(Counter(ITEMS[i].label for i in batch).values()) == [4, 4, 4]


def test_small_classes_repeat_images():
    sampler = build_sampler("RandomClassSampler", data_source=ITEMS[:10], batch_size=8, n_ins=4)
    (batch, *_) = batches(sampler, 8)
    assert all(count == 4 for count in Counter(ITEMS[i].label for i in batch).values())


@pytest.mark.parametrize(
    "name", ["RandomSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler"]
)
def test_order_is_a_function_of_the_seed(name):
    from dassl.utils import set_random_seed

    def draw(seed):
        set_random_seed(seed)
        return list(build_sampler(name, data_source=ITEMS, batch_size=6, n_ins=2))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert all(isinstance(i, int) and not isinstance(i, np.integer) for i in draw(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sampler_type": "RandomDomainSampler", "batch_size": 7, "n_domain": 2},
            "batch_size=7 must be a multiple",
        ),
        (
            {"sampler_type": "RandomDomainSampler", "batch_size": 8, "n_domain": 4},
            "more than there are domains",
        ),
        ({"sampler_type": "SeqDomainSampler", "batch_size": 66}, "has 20 images, fewer than the 22"),
        ({"sampler_type": "RandomClassSampler", "batch_size": 2, "n_ins": 4}, "no less than n_ins=4"),
        (
            {"sampler_type": "RandomClassSampler", "batch_size": 24, "n_ins": 4},
            "takes 6 classes, but there are 5",
        ),
        ({"sampler_type": "Random"}, "Unknown sampler type: Random"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        build_sampler(data_source=ITEMS, **options)
