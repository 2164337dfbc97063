"""A run that was killed and continued ends where the undisturbed one does, bit for bit."""

import os
import random
import signal
import time

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, build_trainer, resume

from .interrupted import OPTIONS, Interrupt, assert_same, contents, run, start
from .plugin import Tiny, tiny_cfg


@pytest.mark.parametrize("workers", [0, 2])
def test_kill_at_random_moments(root, tmp_path, workers):
    options = (*OPTIONS, "DATALOADER.NUM_WORKERS", workers)
    began = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed.txt", tiny_cfg(root, tmp_path / "a", *options))
    undisturbed.join()
    assert undisturbed.exitcode == 0, (tmp_path / "undisturbed.txt").read_text()
    duration = time.monotonic() - began

    log, cfg = tmp_path / "killed.txt", tiny_cfg(root, tmp_path / "b", *options)
    moments = random.Random()
    for _ in range(4):
        process = start(log, cfg)
        process.join(moments.uniform(0.1, 0.7) * duration)
        process.kill()
        process.join()
    cfg.RESUME = cfg.OUTPUT_DIR if os.path.isdir(cfg.OUTPUT_DIR) else ""
    last = start(log, cfg)
    last.join()
    assert last.exitcode == 0, log.read_text()
    assert_same(contents(tmp_path / "a"), contents(tmp_path / "b"))
    result = (tmp_path / "undisturbed.txt").read_text().rpartition("=> result")[2].rpartition("Elapsed")[0]
    assert log.read_text().rpartition("=> result")[2].rpartition("Elapsed")[0] == result
    assert not (tmp_path / "b" / resume.FILE_NAME).exists()


@pytest.mark.parametrize("trainer", ["Tiny", "TinyTeacher", "TinyXU"])
def test_kill_between_any_two_batches(root, tmp_path, trainer):
    """Killed twice, in epochs 2 and 4."""
    options = (*OPTIONS, "TRAINER.NAME", trainer)
    run(tiny_cfg(root, tmp_path / "a", *options))

    kind = TRAINER_REGISTRY.get(trainer)
    plain = kind.forward_backward
    log, cfg = tmp_path / "log.txt", tiny_cfg(root, tmp_path / "b", *options)
    for epoch in (1, 3):

        def kill_in_epoch(epoch=epoch):
            def forward_backward(self, *batch):
                if self.epoch == epoch and self.batch_idx == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(self, *batch)

            kind.forward_backward = forward_backward

        process = start(log, cfg, 0.0, kill_in_epoch)
        process.join()
        assert process.exitcode == -signal.SIGKILL, log.read_text()
    trainer = run(cfg)
    assert trainer.start_epoch == 3
    for model in trainer.get_model_names():
        assert_same(contents(tmp_path / "a", model), contents(tmp_path / "b", model), model)


def test_kill_while_the_file_is_written(root, tmp_path):
    run(tiny_cfg(root, tmp_path / "a", *OPTIONS))
    log, cfg = tmp_path / "log.txt", tiny_cfg(root, tmp_path / "b", *OPTIONS)

    def kill_in_the_third_write():
        save, count = torch.save, 0

        def save_half(state, file):
            nonlocal count
            count += "random" in state
            if count < 3:
                return save(state, file)
            file.write(b"half a")
            file.flush()
            return os.kill(os.getpid(), signal.SIGKILL)

        torch.save = save_half

    process = start(log, cfg, 0.0, kill_in_the_third_write)
    process.join()
    assert process.exitcode == -signal.SIGKILL, log.read_text()
    assert len(list((tmp_path / "b").glob(".resume*"))) == 1
    assert run(cfg).start_epoch == 1
    assert_same(contents(tmp_path / "a"), contents(tmp_path / "b"))
    assert not list((tmp_path / "b").glob(".resume*"))


def test_state_beyond_the_models(root, tmp_path):
    class Averaging(Tiny):
        """Keeps a running average of its weights, and draws a random number before training."""

        average = 0.0

        def before_train(self):
            super().before_train()
            self.noise = torch.rand(1)

        def after_epoch(self):
            if self.epoch == stop_at:
                raise Interrupt
            self.average = 0.5 * self.average + self.model.fc.weight.detach().clone()
            super().after_epoch()

        def get_extra_state(self):
            return {"average": self.average}

        def set_extra_state(self, state):
            self.average = state["average"]

    TRAINER_REGISTRY.register(Averaging, force=True)
    options = (*OPTIONS, "TRAINER.NAME", "Averaging")
    stop_at = None
    undisturbed = run(tiny_cfg(root, tmp_path / "a", *options))
    stop_at = 3
    with pytest.raises(Interrupt):
        run(tiny_cfg(root, tmp_path / "b", *options))
    stop_at = None
    resumed = run(tiny_cfg(root, tmp_path / "b", *options))
    assert resumed.start_epoch == 3
    assert torch.equal(resumed.average, undisturbed.average)
    assert resumed.best_result == undisturbed.best_result


def test_interval_where_the_config_has_no_such_key(root, tmp_path):
    cfg = tiny_cfg(root, tmp_path)
    cfg.TRAIN.pop("RESUME_INTERVAL", None)
    assert resume.ResumeFile(build_trainer(cfg)).interval == 30


@pytest.mark.parametrize(
    ("seconds_to_write", "interval", "epochs_written"),
    [
        (0.1, 1e9, [1, 2, 3, 4, 5, 6]),  # writing is cheap
        (5.0, 1e9, [6]),  # it is not: only the last epoch's end
        (5.0, 30.0, [3, 6]),  # ... unless so many seconds have passed
        (5.0, 0.0, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_how_often_it_is_written(root, tmp_path, monkeypatch, seconds_to_write, interval, epochs_written):
    """Epochs take ten seconds."""
    trainer = build_trainer(tiny_cfg(root, tmp_path, "OPTIM.MAX_EPOCH", 6))
    file, now, written = resume.ResumeFile(trainer), [0.0], []
    file.interval = interval
    monkeypatch.setattr(resume.time, "monotonic", lambda: now[0])

    def save(state, target):
        now[0] += seconds_to_write
        written.append(state["epoch"])

    monkeypatch.setattr(resume.torch, "save", save)
    file.begin()
    for trainer.epoch in range(6):
        now[0] += 10.0
        file.epoch_done()
    assert written == [0, *epochs_written]


def test_a_long_epoch_is_written_in_the_middle(root, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "OVERDUE", 0.0)
    written = []
    plain = resume.ResumeFile._write
    monkeypatch.setattr(
        resume.ResumeFile,
        "_write",
        lambda self: (written.append((self.epoch_start["epoch"], self.batches_done)), plain(self)),
    )
    monkeypatch.setattr(resume, "SHARE", 1e9)
    trainer = run(tiny_cfg(root, tmp_path, "OPTIM.MAX_EPOCH", 1))
    assert written == [(0, batch) for batch in range(trainer.num_batches + 1)] + [(1, 0)]
