"""The order in which a loader takes the images of an epoch. All draw from the global random states."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

__all__ = ["RandomClassSampler", "RandomDomainSampler", "SeqDomainSampler", "build_sampler"]


def _indices_by(data_source: Sequence[Any], attribute: str) -> dict[Any, list[int]]:
    groups = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return dict(groups)


class RandomDomainSampler(Sampler[int]):
    """Batches of ``n_domain`` random domains with equally many random images each.

    An epoch ends when a domain is used up.

    Args:
        data_source: a list of Datum.
        batch_size: a multiple of ``n_domain``.
        n_domain: domains in a batch; all where it is None or below 1.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_domain: int | None):
        self.data_source = data_source
        self.domain_dict = _indices_by(data_source, "domain")
        self.domains = list(self.domain_dict)
        if n_domain is None or n_domain <= 0:
            n_domain = len(self.domains)
        if n_domain > len(self.domains):
            raise ValueError(f"n_domain={n_domain} is more than there are domains ({len(self.domains)})")
        if batch_size % n_domain:
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of the number of domains, {n_domain}"
            )
        self.batch_size = batch_size
        self.n_domain = n_domain
        self.n_img_per_domain = batch_size // n_domain
        short = min(self.domain_dict, key=lambda domain: len(self.domain_dict[domain]))
        if len(self.domain_dict[short]) < self.n_img_per_domain:
            raise ValueError(
                f"Domain {short} has {len(self.domain_dict[short])} images, fewer than the "
                f"{self.n_img_per_domain} that a batch of {batch_size} takes of each of {n_domain} domains"
            )
        self.length = len(list(iter(self)))

    def _batch_domains(self) -> list[Any]:
        return random.sample(self.domains, self.n_domain)

    def __iter__(self) -> Iterator[int]:
        remaining = {domain: list(indices) for domain, indices in self.domain_dict.items()}
        order: list[int] = []
        while all(len(indices) >= self.n_img_per_domain for indices in remaining.values()):
            for domain in self._batch_domains():
                drawn = random.sample(remaining[domain], self.n_img_per_domain)
                order.extend(drawn)
                gone = set(drawn)
                remaining[domain] = [index for index in remaining[domain] if index not in gone]
        return iter(order)

    def __len__(self) -> int:
        return self.length


class SeqDomainSampler(RandomDomainSampler):
    """Batches with equally many random images of every domain, the domains in ascending order."""

    def __init__(self, data_source: Sequence[Any], batch_size: int):
        super().__init__(data_source, batch_size, n_domain=None)

    def _batch_domains(self) -> list[Any]:
        return sorted(self.domains)


class RandomClassSampler(Sampler[int]):
    """Batches of random classes with ``n_ins`` random images each.

    A class that has fewer images than that fills up with repeated ones. An epoch ends when too few classes
    are left for a batch.

    Args:
        data_source: a list of Datum.
        batch_size: at least ``n_ins``.
        n_ins: images per class in a batch.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_ins: int):
        if batch_size < n_ins:
            raise ValueError(f"batch_size={batch_size} must be no less than n_ins={n_ins}")
        self.data_source = data_source
        self.batch_size = batch_size
        self.n_ins = n_ins
        self.ncls_per_batch = batch_size // n_ins
        self.index_dic = _indices_by(data_source, "label")
        self.labels = list(self.index_dic)
        if len(self.labels) < self.ncls_per_batch:
            raise ValueError(
                f"A batch of {batch_size} with n_ins={n_ins} takes {self.ncls_per_batch} classes, "
                f"but there are {len(self.labels)}"
            )
        self.length = len(list(iter(self)))

    def _chunks(self, indices: list[int]) -> list[list[int]]:
        if len(indices) < self.n_ins:
            indices = np.random.choice(indices, size=self.n_ins, replace=True).tolist()  # noqa: NPY002
        else:
            indices = list(indices)
        random.shuffle(indices)
        whole = len(indices) // self.n_ins * self.n_ins
        return [indices[start : start + self.n_ins] for start in range(0, whole, self.n_ins)]

    def __iter__(self) -> Iterator[int]:
        chunks = {label: self._chunks(self.index_dic[label]) for label in self.labels}
        available = list(self.labels)
        order: list[int] = []
        while len(available) >= self.ncls_per_batch:
            for label in random.sample(available, self.ncls_per_batch):
                order.extend(chunks[label].pop(0))
                if not chunks[label]:
                    available.remove(label)
        return iter(order)

    def __len__(self) -> int:
        return self.length


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: Any = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """The sampler of that name.

    Raises:
        ValueError: there is none; names those there are.
    """
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins)
    raise ValueError(
        f"Unknown sampler type: {sampler_type} (available: RandomSampler, SequentialSampler, "
        "RandomDomainSampler, SeqDomainSampler, RandomClassSampler)"
    )
