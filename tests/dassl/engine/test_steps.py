"""An epoch's steps: when their losses are looked at, what ends a run, what is shown."""

import contextlib
import os
import re
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed, setup_logger

from .plugin import LINE, Tiny, tiny_cfg, train


def test_step_seconds_are_the_median_of_the_later_steps_without_their_data(root, tmp_path, monkeypatch):
    clock = [0]

    class Clocked(Tiny):
        """Its step number n takes n seconds, its data take 100."""

        steps = 0

        def run_epoch(self):
            self.num_batches = len(self.train_loader_x)
            self._steps.run((batch,) for batch in self.slowly(self.train_loader_x))

        def slowly(self, loader):
            for batch in loader:
                clock[0] += 100
                yield batch

        def forward_backward(self, batch):
            self.steps += 1
            clock[0] += self.steps
            return super().forward_backward(batch)

    TRAINER_REGISTRY.register(Clocked, force=True)
    monkeypatch.setattr("dassl.engine.steps.time", SimpleNamespace(time=lambda: clock[0]))
    cfg = tiny_cfg(root, tmp_path, "TRAINER.NAME", "Clocked")
    assert build_trainer(cfg).step_seconds is None
    trainer = train(cfg)
    assert trainer.steps == 12
    assert trainer.step_seconds == (6 + 12) / 2


def test_losses_that_are_tensors_are_fetched_when_a_line_is_printed(root, tmp_path, capsys, monkeypatch):
    fetches = []
    tolist = torch.Tensor.tolist

    def note(tensor):
        if tensor.is_floating_point():
            fetches.append((trainer.epoch, trainer.batch_idx))
        return tolist(tensor)

    class InTensors(Tiny):
        def forward_backward(self, batch):
            summary = super().forward_backward(batch)
            return {name: torch.tensor(value) for name, value in summary.items()}

    TRAINER_REGISTRY.register(InTensors, force=True)
    reported = {}
    for name in ("Tiny", "InTensors"):
        cfg = tiny_cfg(root, tmp_path / name, "TRAINER.NAME", name, "TRAIN.PRINT_FREQ", 3)
        set_random_seed(0)
        trainer = build_trainer(cfg)
        scalars = reported[name] = []
        monkeypatch.setattr(trainer, "write_scalar", lambda *args, to=scalars: to.append(args))
        capsys.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "tolist", note)
            fetches.clear()
            trainer.train()
        lines = [
            line.split(" loss ")[1].split(" eta")[0]
            for line in capsys.readouterr().out.splitlines()
            if " loss " in line
        ]
        reported[name] = lines, scalars
    per_epoch = trainer.num_batches
    assert [batch for epoch, batch in fetches if epoch == 1] == [
        batch for batch in range(per_epoch) if (batch + 1) % 3 == 0 or batch + 1 == per_epoch
    ]
    assert reported["InTensors"] == reported["Tiny"]
    assert reported["Tiny"][0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("mixed_precision", [False, True])
@pytest.mark.parametrize("in_tensors", [False, True])
def test_a_loss_that_is_not_finite_stops_the_run(root, tmp_path, value, mixed_precision, in_tensors):
    class Diverging(Tiny):
        def forward_backward(self, batch):
            loss = self.model(batch["img"]).mean()
            if self.epoch == 1 and self.batch_idx == 2:
                loss = loss * value
            if mixed_precision:
                self.optim.zero_grad()
                loss.backward()
                self.optim.step()
            else:
                self.model_backward_and_update(loss)
            if self.batch_idx == 3:
                self.update_lr()
            return {"loss": loss.detach() if in_tensors else loss.item()}

    TRAINER_REGISTRY.register(Diverging, force=True)
    trainer = build_trainer(tiny_cfg(root, tmp_path, "TRAINER.NAME", "Diverging", "TRAIN.CHECKPOINT_FREQ", 1))
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    assert re.fullmatch(
        r"loss is -?(nan|inf) at epoch 2 batch 3 \(step 7\), learning rate 5\.0000e-02; "
        rf"last good checkpoint: {tmp_path}/tiny/model\.pth\.tar-1 \(epoch 1\)",
        str(error.value),
    )


def test_another_number_of_the_summary_may_be_anything(root, tmp_path):
    class Noting(Tiny):
        def forward_backward(self, batch):
            return {**super().forward_backward(batch), "loss_of_unlabelled": float("nan")}

    TRAINER_REGISTRY.register(Noting, force=True)
    assert train(tiny_cfg(root, tmp_path, "TRAINER.NAME", "Noting")).epoch == 2


@pytest.mark.parametrize(
    ("factor", "infinite", "ended"),
    [
        (1.0, 1, None),
        (
            1.0,
            12,
            r"epoch 3 batch 1 \(step 9\)",
        ),  # an epoch has four batches, five losses in a row are allowed
        (float("nan"), 1, r"epoch 2 batch 1 \(step 5\)"),  # of the weights: no skipped step mends them
    ],
)
def test_a_step_that_the_loss_scaler_skips_stops_nothing_unless_nothing_can_change(
    root, tmp_path, factor, infinite, ended
):
    class Scaled(Tiny):
        def build_model(self):
            super().build_model()
            self.scaler = torch.amp.GradScaler("cpu")

        def forward_backward(self, batch):
            loss = self.model(batch["img"]).mean()
            if 4 <= self.epoch * self.num_batches + self.batch_idx < 4 + infinite:
                loss = loss * float("inf")
                with torch.no_grad():
                    next(self.model.parameters()).mul_(factor)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
            if self.batch_idx == 3:
                self.update_lr()
            return {"loss": loss.item()}

    TRAINER_REGISTRY.register(Scaled, force=True)
    cfg = tiny_cfg(root, tmp_path, "TRAINER.NAME", "Scaled")
    if ended is None:
        assert all(weight.isfinite().all() for weight in train(cfg).model.parameters())
    else:
        with pytest.raises(FloatingPointError, match=ended):
            train(cfg)


def test_no_good_checkpoint_is_named_where_weights_were_spoilt_before(root, tmp_path):
    class Spoilt(Tiny):
        def after_epoch(self):
            self.model.fc.weight.data[0, 0] = float("nan")
            super().after_epoch()

    TRAINER_REGISTRY.register(Spoilt, force=True)
    cfg = tiny_cfg(root, tmp_path, "TRAINER.NAME", "Spoilt", "TRAIN.CHECKPOINT_FREQ", 1)
    with pytest.raises(FloatingPointError, match=r"epoch 2 batch 1 .*: none has been written yet$"):
        train(cfg)


@contextlib.contextmanager
def terminal():
    """A stream that is a terminal, and the list of what was written to it."""
    ours, theirs = os.openpty()
    written = []

    def read():
        with contextlib.suppress(OSError):  # raised when the other side is closed
            while True:
                written.append(os.read(ours, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w") as stream:
        yield stream, written
    reader.join()
    os.close(ours)


def test_terminal_shows_one_bar_and_the_log_keeps_the_lines(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    setup_logger(tmp_path)
    with terminal() as (stream, written):
        monkeypatch.setattr(sys, "stderr", stream)
        train(tiny_cfg(root, tmp_path))
        monkeypatch.undo()
    screen = b"".join(written).decode()
    assert re.search(r"12/12 \[\d\d:\d\d<\d\d:\d\d", screen)  # elapsed < left
    assert len(re.findall(r"epoch 3/3: 100%[^\r\n]*\r*\n", screen)) == 1  # what is left on the screen
    assert "evaluate test" in screen
    printed, log = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    assert "batch [" not in printed
    assert len(LINE.findall(log)) == 6
    for text in (printed, log):
        assert "=> result" in text
