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


@pytest.mark.parametrize("content", [[1], {"state_dict": {}, "epoch": 2}, None])
def test_a_file_that_is_none_of_a_run_is_refused(root, interrupted, content):
    path = interrupted / resume.FILE_NAME
    if content is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"resume\.pth\.tar.*: remove it to begin anew$"):
        run(tiny_cfg(root, interrupted, *OPTIONS))


def test_a_file_of_other_settings_is_refused(root, interrupted):
    settings = ("SEED", 4, "OPTIM.LR", 0.1, "INPUT.SIZE", (24, 24), "OPTIM.MAX_EPOCH", 6)
    with pytest.raises(ValueError) as refused:
        run(tiny_cfg(root, interrupted, *OPTIONS, *settings))
    assert str(refused.value) == (
        f"{interrupted / resume.FILE_NAME} is of an unfinished run with other settings (SEED: 3 -> 4; "
        "INPUT.SIZE: (16, 16) -> (24, 24); OPTIM.LR: 0.05 -> 0.1; ...): "
        "choose another output folder, or begin anew with the file removed"
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


# Interrupted within an epoch

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def sigterm_as_interrupt():
    """What train.py does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def signalled(kind, number, epoch, batch):
    """A `forward_backward` that gets the signal in the middle of a step."""
    plain = kind.forward_backward

    def forward_backward(self, *batches):
        if (self.epoch, self.batch_idx) == (epoch, batch):
            kind.forward_backward = plain
            signal.raise_signal(number)
        return plain(self, *batches)

    return forward_backward


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


# Of which run it is


def test_weights_beside_the_registered_models_are_compared(root, tmp_path, interrupted):
    """As of plugins, whose CLIP is an attribute of a network that is not registered."""

    class WithTeacher(Tiny):
        def build_model(self):
            super().build_model()
            self.clip = torch.nn.Linear(2, 2).requires_grad_(False)
            self.clip.weight.data.fill_(value)

    WithTeacher.__name__ = "Tiny"
    original, value = TRAINER_REGISTRY.get("Tiny"), 1.0
    TRAINER_REGISTRY.register(WithTeacher, force=True)
    try:
        cfg = tiny_cfg(root, tmp_path / "b", *OPTIONS)
        monkey = signalled(WithTeacher, signal.SIGINT, 1, 1)
        WithTeacher.forward_backward = monkey
        with pytest.raises(KeyboardInterrupt):
            run(cfg)
        value = 2.0
        with pytest.raises(
            ValueError, match=r"other weights or data \(weights beside the models: \d+ -> \d+\)"
        ):
            run(cfg)
        value = 1.0
        assert run(cfg).start_epoch == 1
    finally:
        TRAINER_REGISTRY.register(original, force=True)


def test_other_images_are_refused(root, tmp_path, interrupted):
    import shutil

    shutil.copytree(root / "stripes", tmp_path / "moved" / "stripes")
    moved = tiny_cfg(tmp_path / "moved", interrupted, *OPTIONS)
    next((tmp_path / "moved" / "stripes" / "train").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"other weights or data \(training images: \w+ -> \w+"):
        run(moved)


def test_the_data_may_lie_elsewhere(root, tmp_path, interrupted):
    import shutil

    shutil.copytree(root / "stripes", tmp_path / "moved" / "stripes")
    assert run(tiny_cfg(tmp_path / "moved", interrupted, *OPTIONS)).start_epoch == 2
