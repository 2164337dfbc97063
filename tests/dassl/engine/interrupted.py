"""Runs that are interrupted, in this process or in one that can be killed, and what they leave."""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback

import torch

from dassl.engine import build_trainer
from dassl.utils import load_checkpoint, set_random_seed

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


class Interrupt(Exception):
    pass


def signalled(kind, number, epoch, batch):
    """A `forward_backward` that gets the signal in the middle of a step."""
    plain = kind.forward_backward

    def forward_backward(self, *batches):
        if (self.epoch, self.batch_idx) == (epoch, batch):
            kind.forward_backward = plain
            signal.raise_signal(number)
        return plain(self, *batches)

    return forward_backward
