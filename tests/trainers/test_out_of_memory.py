"""Running out of a GPU's memory is one line, and a run goes on from there."""

from types import SimpleNamespace

import pytest
import torch

import clip
from trainers.coop import CoOpModel
from trainers.out_of_memory import savings

TORCHS = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"


@pytest.fixture
def run_out(monkeypatch):
    """From call number n on, a method of CoOp's model finds no memory; until what this returns is called."""

    def run_out(name, n):
        method, calls = getattr(CoOpModel, name), []

        def limited(self, *args):
            calls.append(1)
            if len(calls) >= n:
                raise torch.OutOfMemoryError(TORCHS)
            return method(self, *args)

        monkeypatch.setattr(CoOpModel, name, limited)
        return lambda: monkeypatch.setattr(CoOpModel, name, method)

    return run_out


def test_in_training(run_train, short_run, run_out, tmp_path):
    opts = ["OPTIM.MAX_EPOCH", 3, "TRAIN.RESUME_INTERVAL", 0.0, "TRAIN.CHECKPOINT_FREQ", 1]
    clip.load("mini", "fp32")  # draws random numbers the first time
    straight = [tmp_path / "straight" if word == tmp_path / "run" else word for word in short_run]
    assert run_train(*straight, *opts).code == 0
    enough = run_out("loss", 4)  # of two batches an epoch
    run_train(*short_run, *opts).assert_wrong_input(
        f"out of GPU memory in epoch 2 of 3 ({TORCHS}); less takes: MODEL.TEXT_CHUNK 5 (class texts at once, now 10;",
        "or DATALOADER.TRAIN_X.BATCH_SIZE 2 (now 5)",
    )
    first = torch.load(tmp_path / "run" / "prompt_learner" / "model.pth.tar-1", weights_only=True)
    expected = torch.load(tmp_path / "straight" / "prompt_learner" / "model.pth.tar-1", weights_only=True)
    assert torch.equal(first["state_dict"]["context.ctx"], expected["state_dict"]["context.ctx"])

    enough()
    ended = run_train("--resume", tmp_path / "run", *short_run, *opts, "MODEL.TEXT_CHUNK", 5)
    assert (ended.code, ended.err) == (0, "")
    assert "epoch [1/3]" not in ended.out


def test_in_evaluation(run_train, short_run, run_out):
    run_out("score", 6)  # after four steps, in the second batch
    run_train(*short_run).assert_wrong_input(
        "out of GPU memory in the evaluation (",
        "TEST.CLASS_CHUNK 5",
        "DATALOADER.TEST.BATCH_SIZE 100 (now 200)",
    )


def test_what_takes_less(make):
    trainer = make("CoOp", "TRAINER.CLASS_SAMPLE", 8, "MODEL.TEXT_MEMORY", 3.0)
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 4
    trainer.captured.recorder = SimpleNamespace()
    trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    assert savings(trainer, training=True) == [
        "MODEL.TEXT_CHUNK 4 (class texts at once, now 8; or MODEL.TEXT_MEMORY, 1.5 GiB)",
        "TRAIN.CUDA_GRAPH False",
        "DATALOADER.TRAIN_X.BATCH_SIZE 2 (now 5)",
        "TRAINER.COOP.PREC bf16 (now fp32)",
    ]
    smallest = make(
        "CoOp", "MODEL.TEXT_CHUNK", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 1, "TRAINER.COOP.PREC", "fp16"
    )
    assert savings(smallest, training=True) == ["a smaller backbone, or a GPU with more"]
