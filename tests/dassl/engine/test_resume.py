"""A run that was killed and continued ends where the undisturbed one does, bit for bit."""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, build_trainer, resume
from dassl.utils import load_checkpoint, set_random_seed

from .plugin import Tiny, TinyNet, tiny_cfg

OPTIONS = "OPTIM.MAX_EPOCH", 5, "TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 2
FORK = multiprocessing.get_context("fork")


def run(cfg, interval=0.0, before=lambda: None):
    """Train as a program does, from the seed on."""
    torch.set_num_threads(1)
    cfg.TRAIN.RESUME_INTERVAL = interval
    before()
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.train()
    return trainer


def start(log, *args):
    """The same in a process of its own, which prints to the file ``log`` and can be killed."""

    def program():
        with open(log, "a", buffering=1) as sys.stdout, contextlib.redirect_stderr(sys.stdout):
            try:
                run(*args)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)

    process = FORK.Process(target=program)
    process.start()
    return process


def contents(folder, model="tiny"):
    """All that a run leaves in its checkpoints: {file: checkpoint}."""
    return {path.name: load_checkpoint(path) for path in sorted((folder / model).glob("model*"))}


def assert_same(a, b, where=""):
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}.{i}")
    else:
        assert a == b, where


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
@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_kill_between_any_two_batches(root, tmp_path, trainer, interval):
    """Killed twice, in epochs 2 and 4; with a long interval all is computed again from the start."""
    options = (*OPTIONS, "TRAINER.NAME", trainer)
    run(tiny_cfg(root, tmp_path / "a", *options), interval)

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

        process = start(log, cfg, interval, kill_in_epoch)
        process.join()
        assert process.exitcode == -signal.SIGKILL, log.read_text()
    trainer = run(cfg, interval)
    assert trainer.start_epoch == (3 if interval == 0 else 0)
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


class Interrupt(Exception):
    pass


@pytest.fixture
def interrupted(root, tmp_path):
    """The folder of a run that ended in its third epoch."""

    def forward_backward(self, batch):
        if self.epoch == 2:
            raise Interrupt
        return plain(self, batch)

    plain, Tiny.forward_backward = Tiny.forward_backward, forward_backward
    try:
        with pytest.raises(Interrupt):
            run(tiny_cfg(root, tmp_path / "interrupted", *OPTIONS))
    finally:
        Tiny.forward_backward = plain
    return tmp_path / "interrupted"


def test_continue_in_another_folder(root, tmp_path, interrupted, capsys):
    run(tiny_cfg(root, tmp_path / "a", *OPTIONS))
    capsys.readouterr()
    best = (interrupted / "tiny" / "model-best.pth.tar").read_bytes()
    trainer = run(tiny_cfg(root, tmp_path / "b", *OPTIONS, "RESUME", str(interrupted)))
    out = capsys.readouterr().out
    assert f"Found checkpoint at {interrupted} (will resume training)\nPrevious epoch: 2\n" in out
    assert trainer.start_epoch == 2
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    del a["model.pth.tar-2"]
    assert_same(a, b)
    assert (interrupted / resume.FILE_NAME).exists()
    assert (interrupted / "tiny" / "model-best.pth.tar").read_bytes() == best


def test_file_holds_only_what_changed(interrupted):
    state = load_checkpoint(interrupted / resume.FILE_NAME)
    assert torch.load(interrupted / resume.FILE_NAME, weights_only=True)["epoch"] == 2
    net = TinyNet(2)
    fixed = {"pixel_scale", "stem.weight", "stem.bias"}
    assert set(state["models"]["tiny"]["left_out"]) == fixed
    assert set(state["models"]["tiny"]["state_dict"]) == set(net.state_dict()) - fixed


def test_without_the_file_dassls_checkpoints_serve(root, tmp_path, interrupted, capsys):
    (interrupted / resume.FILE_NAME).unlink()
    trainer = run(tiny_cfg(root, interrupted, *OPTIONS))
    assert trainer.start_epoch == 2
    assert "Loaded scheduler" in capsys.readouterr().out
    assert trainer.sched.last_epoch >= 1
    # The run has finished now: once more, only its result is computed.
    again = run(tiny_cfg(root, interrupted, *OPTIONS))
    assert (again.start_epoch, again.epoch) == (5, 4)


def test_another_runs_file_is_refused(root, tmp_path, interrupted):
    with pytest.raises(ValueError, match=r"resume\.pth\.tar is of .*\(SEED: 3 -> 4\)"):
        run(tiny_cfg(root, interrupted, *OPTIONS, "SEED", 4))
    with pytest.raises(ValueError, match=r"\(TRAINER\.NAME: Tiny -> TinyTeacher\)"):
        run(tiny_cfg(root, interrupted, *OPTIONS, "TRAINER.NAME", "TinyTeacher"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to resume from"):
        run(tiny_cfg(root, tmp_path / "b", *OPTIONS, "RESUME", str(tmp_path / "nowhere")))


def test_a_file_of_other_settings_is_refused(root, interrupted):
    settings = ("SEED", 4, "OPTIM.LR", 0.1, "INPUT.SIZE", (24, 24), "OPTIM.MAX_EPOCH", 6)
    with pytest.raises(ValueError) as refused:
        run(tiny_cfg(root, interrupted, *OPTIONS, *settings))
    assert str(refused.value) == (
        f"{interrupted / resume.FILE_NAME} is of an unfinished run with other settings (SEED: 3 -> 4; "
        "INPUT.SIZE: (16, 16) -> (24, 24); OPTIM.LR: 0.05 -> 0.1; ...): "
        "choose another output folder, or remove the file"
    )


def test_what_does_not_change_the_result_may_change(root, interrupted):
    settings = ("DATALOADER.NUM_WORKERS", 1, "TRAIN.PRINT_FREQ", 1, "TEST.PER_CLASS_RESULT", True)
    cfg = tiny_cfg(root, interrupted, *OPTIONS, *settings)
    cfg.OF_A_LATER_VERSION = True
    assert run(cfg).start_epoch == 2


def test_other_frozen_weights_are_refused(root, interrupted):
    class OtherStem(Tiny):
        def build_model(self):
            super().build_model()
            self.model.stem.weight.data += 1

    OtherStem.__name__ = "Tiny"
    original = TRAINER_REGISTRY.get("Tiny")
    TRAINER_REGISTRY.register(OtherStem, force=True)
    try:
        with pytest.raises(ValueError, match='other frozen weights of "tiny"'):
            run(tiny_cfg(root, interrupted, *OPTIONS))
    finally:
        TRAINER_REGISTRY.register(original, force=True)


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
