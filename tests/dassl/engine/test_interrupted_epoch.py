"""Ctrl-C and SIGTERM in the middle of an epoch: the run goes on there, bit for bit."""

import signal

import pytest

from dassl.engine import TRAINER_REGISTRY, build_trainer, resume
from dassl.utils import load_checkpoint, set_random_seed

from .interrupted import OPTIONS, assert_same, contents, run, signalled
from .plugin import Tiny, tiny_cfg

# Interrupted within an epoch

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def sigterm_as_interrupt():
    """What train.py does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("trainer", "workers", "batch"), [("Tiny", 0, 0), ("Tiny", 2, 2), ("TinyTeacher", 0, "last")]
)
def test_an_interrupted_epoch_goes_on_where_it_was(
    root, tmp_path, monkeypatch, sigterm_as_interrupt, number, trainer, workers, batch
):
    """The step is done to its end, the batch is not computed again, and dropout draws what it would have drawn."""
    options = (*OPTIONS, "TRAINER.NAME", trainer, "DATALOADER.NUM_WORKERS", workers)
    whole = run(tiny_cfg(root, tmp_path / "a", *options), 1e9)
    batch = whole.num_batches - 1 if batch == "last" else batch

    kind, cfg = TRAINER_REGISTRY.get(trainer), tiny_cfg(root, tmp_path / "b", *options)
    monkeypatch.setattr(kind, "forward_backward", signalled(kind, number, 2, batch))
    with pytest.raises(KeyboardInterrupt):
        run(cfg, 1e9)
    state = load_checkpoint(tmp_path / "b" / resume.FILE_NAME)
    assert (state["epoch"], state["within"]["batches"]) == (2, batch + 1)

    done = []
    plain = kind.forward_backward

    def count(self, *batches):
        done.append((self.epoch, self.batch_idx))
        return plain(self, *batches)

    monkeypatch.setattr(kind, "forward_backward", count)
    again = run(cfg, 1e9)
    n = whole.num_batches
    assert done == [(2, b) for b in range(batch + 1, n)] + [(e, b) for e in (3, 4) for b in range(n)]
    for model in again.get_model_names():
        assert_same(contents(tmp_path / "a", model), contents(tmp_path / "b", model), model)
    assert again.best_result == whole.best_result


def test_images_of_batches_that_are_done_are_not_read(root, tmp_path, monkeypatch):
    cfg = tiny_cfg(root, tmp_path, *OPTIONS)
    monkeypatch.setattr(Tiny, "forward_backward", signalled(Tiny, signal.SIGINT, 0, 1))
    with pytest.raises(KeyboardInterrupt):
        run(cfg)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    read = []
    wrapper = trainer.train_loader_x.dataset
    plain = wrapper._read
    monkeypatch.setattr(wrapper, "_read", lambda index: (read.append(index), plain(index))[1])
    trainer.max_epoch = 1
    trainer.train()
    assert len(read) == 4 * (trainer.num_batches - 2)


def test_interrupted_while_it_validates(root, tmp_path, monkeypatch):
    """All batches of the epoch are done: none of them is lost, and the epoch's end is done again, whole."""
    run(tiny_cfg(root, tmp_path / "a", *OPTIONS))
    cfg, plain = tiny_cfg(root, tmp_path / "b", *OPTIONS), Tiny.test

    def test(self, split=None):
        if self.epoch == 1:
            monkeypatch.setattr(Tiny, "test", plain)
            raise KeyboardInterrupt
        return plain(self, split)

    monkeypatch.setattr(Tiny, "test", test)
    with pytest.raises(KeyboardInterrupt):
        run(cfg, 1e9)
    state = load_checkpoint(tmp_path / "b" / resume.FILE_NAME)
    assert (state["epoch"], state["within"]["batches"]) == (1, run(cfg).num_batches)
    assert_same(contents(tmp_path / "a"), contents(tmp_path / "b"))


def test_the_second_signal_does_not_wait_for_the_step(root, tmp_path, monkeypatch):
    def forward_backward(self, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(Tiny, "forward_backward", forward_backward)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_cfg(root, tmp_path, *OPTIONS))
    assert load_checkpoint(tmp_path / resume.FILE_NAME)["within"] is None


def test_two_loaders_begin_the_epoch_anew(root, tmp_path, monkeypatch):
    options = (*OPTIONS, "TRAINER.NAME", "TinyXU")
    run(tiny_cfg(root, tmp_path / "a", *options))
    cfg, kind = tiny_cfg(root, tmp_path / "b", *options), TRAINER_REGISTRY.get("TinyXU")
    monkeypatch.setattr(kind, "forward_backward", signalled(kind, signal.SIGINT, 3, 1))
    with pytest.raises(KeyboardInterrupt):
        run(cfg)
    assert run(cfg).start_epoch == 3
    assert_same(contents(tmp_path / "a"), contents(tmp_path / "b"))
