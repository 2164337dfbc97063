import multiprocessing
import random
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from dassl.data import DatasetWrapper, build_data_loader, loader
from dassl.data.datasets import Datum
from dassl.data.loader import EpochLoader
from dassl.data.transforms import build_transform
from dassl.utils import set_random_seed

AUGMENTATIONS = ["random_resized_crop", "random_flip", "randaugment", "cutout", "gaussian_noise"]


class Draws(Dataset):
    """An item is one random number of each of the three kinds."""

    shift = 0.0

    def __len__(self):
        return 12

    def __getitem__(self, index):
        numbers = [random.random(), np.random.rand(), torch.rand(1).item()]  # noqa: NPY002
        return index, torch.tensor(numbers) + self.shift


def draws(num_workers=0, data=None, batch_size=4):
    data = data or Draws()
    return EpochLoader(data, batch_size, RandomSampler(data), num_workers=num_workers)


def epoch(batches):
    indices, numbers = zip(*batches)
    return torch.cat(indices), torch.cat(numbers)


def states():
    numpy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy[1].tolist(), torch.get_rng_state().tolist()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b))


def test_batches_do_not_depend_on_the_number_of_workers(cfg, items):
    transform = build_transform(cfg, choices=AUGMENTATIONS)
    runs = []
    for num_workers in (0, 1, 2):
        cfg.DATALOADER.NUM_WORKERS = num_workers
        batches = build_data_loader(cfg, "RandomSampler", items, batch_size=10, tfm=transform)
        set_random_seed(5)
        images = []
        for _ in range(3):
            images.append(torch.cat([batch["img"] for batch in batches]))
            torch.rand(3)  # a training step's random numbers
        runs.append((torch.stack(images), states()))
    assert not torch.equal(runs[0][0][0], runs[0][0][1])
    for images, after in runs[1:]:
        assert torch.equal(images, runs[0][0])
        assert after == runs[0][1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_restored_states_repeat_an_epoch(num_workers):
    set_random_seed(1)
    batches = draws(num_workers)
    epoch(batches)
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    second = epoch(batches)
    third = epoch(batches)
    set_random_seed(2)  # another process, which has done other things before
    resumed = draws(num_workers)
    epoch(resumed)
    random.setstate(saved[0])
    np.random.set_state(saved[1])  # noqa: NPY002
    torch.set_rng_state(saved[2])
    assert equal(epoch(resumed), second)
    assert equal(epoch(resumed), third)
    assert not equal(second, third)


def test_the_main_process_draws_nothing_for_an_image():
    set_random_seed(1)
    iterator = iter(draws())
    before = states()
    epoch(iterator)
    assert states() == before


def test_everything_is_drawn_when_the_epoch_begins():
    def begin(num_workers):
        set_random_seed(1)
        iterator = iter(draws(num_workers))
        torch.rand(5), random.random(), np.random.rand()  # noqa: NPY002
        return epoch(iterator)

    assert equal(begin(0), begin(2))


def test_all_images_of_an_epoch_are_augmented_differently():
    data = Draws()
    repeated = EpochLoader(data, 4, RandomSampler(data, replacement=True, num_samples=200))
    _, numbers = epoch(repeated)
    assert len(numbers.unique(dim=0)) == 200


def test_the_order_is_the_one_of_a_plain_loader():
    data = Draws()
    plain = torch.utils.data.DataLoader(data, 4, sampler=RandomSampler(data))
    set_random_seed(7)
    expected = torch.cat([indices for indices, _ in plain])
    set_random_seed(7)
    assert torch.equal(epoch(draws())[0], expected)


def test_an_abandoned_epoch_is_no_trouble():
    batches = draws(2)
    set_random_seed(3)
    next(iter(batches))
    second = epoch(batches)
    set_random_seed(3)
    fresh = draws()
    next(iter(fresh))
    assert equal(epoch(fresh), second)


def test_workers_live_on_but_see_a_changed_data_set():
    data = Draws()
    batches = draws(1, data)
    epoch(batches)
    workers = [worker.pid for worker in batches._iterator._workers]
    epoch(batches)
    assert [worker.pid for worker in batches._iterator._workers] == workers
    data.shift = 10.0
    assert epoch(batches)[1].min() > 9


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_list_that_is_reordered_in_place_is_read_as_it_is_now(cfg, items, num_workers):
    cfg.DATALOADER.NUM_WORKERS = num_workers
    source = list(items)
    batches = build_data_loader(
        cfg, "SequentialSampler", source, batch_size=10, tfm=build_transform(cfg, is_train=False)
    )
    list(batches)
    source.reverse()
    read = [path for batch in batches for path in batch["impath"]]
    assert read == [item.impath for item in source][: len(read)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_is_an_iterator_of_a_data_loader(cfg, items, num_workers):
    cfg.DATALOADER.NUM_WORKERS = num_workers
    batches = build_data_loader(cfg, "RandomSampler", items, batch_size=4, tfm=build_transform(cfg))
    epoch = iter(batches)
    assert isinstance(epoch, type(iter(DataLoader([0]))).__base__)
    assert iter(epoch) is epoch
    assert len(epoch) == len(batches) == len([next(epoch), *epoch])
    assert len(batches.behind(2)) == len(batches) - 2
    assert epoch._num_workers == num_workers


def test_it_shows_what_it_was_given(cfg, items):
    batches = build_data_loader(cfg, "RandomSampler", items, batch_size=10, tfm=build_transform(cfg))
    assert isinstance(batches.dataset, DatasetWrapper)
    assert isinstance(batches.sampler, RandomSampler)
    assert batches.batch_size == 10
    assert len(batches) == 2
    list(batches)
    assert isinstance(batches.dataset, DatasetWrapper)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_is_one_line(cfg, items, tmp_path, num_workers):
    cfg.DATALOADER.NUM_WORKERS = num_workers
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    data = [*items[:5], Datum(str(bad))]
    batches = build_data_loader(cfg, data_source=data, batch_size=2, tfm=build_transform(cfg), is_train=False)
    message = f'Cannot read the image "{bad}" (not an image)'
    with pytest.raises(ValueError, match="bad") as caught:
        list(batches)
    assert type(caught.value) is ValueError
    assert str(caught.value) == message
    assert caught.traceback[-1].path.is_relative_to(loader.CHECKOUT / "dassl")
    bad.unlink()
    with pytest.raises(FileNotFoundError) as gone:
        list(batches)
    assert str(gone.value) == f'No image file at "{bad}"'


class Buggy(Draws):
    def __getitem__(self, index):
        return torch.zeros(2).reshape(3) if index == 5 else np.ones((2, 2)) @ np.ones(3)


def test_a_bug_in_a_worker_keeps_its_traceback():
    batches = draws(1, Buggy(), batch_size=1)
    with pytest.raises(ValueError, match="in DataLoader worker") as caught:
        list(batches)
    assert "Original Traceback" in str(caught.value)
    assert not multiprocessing.active_children()


def test_workers_that_have_ended_are_started_anew():
    batches = draws(2)
    set_random_seed(1)
    first = epoch(batches)
    batches.end_workers()
    assert not multiprocessing.active_children()
    batches.end_workers()  # there are none
    set_random_seed(1)
    assert equal(epoch(batches), first)
    batches.end_workers()


def test_few_workers_where_shared_memory_is_short(monkeypatch, capsys):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(64 << 20))
    assert loader._workers_that_fit(8, 10 << 20) == 1
    assert "room for 1 data loader workers, not 8" in capsys.readouterr().out
    assert loader._workers_that_fit(8, 100 << 20) == 0
    assert loader._workers_that_fit(2, 1 << 20) == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_an_empty_data_set_is_named(cfg):
    with pytest.raises(ValueError, match="The data set Toy has no images"):
        build_data_loader(cfg, data_source=[])
