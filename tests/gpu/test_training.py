"""Every method on a real device: the cases of the pretended one, and what needs kernels, processes and time."""

import functools
import json
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from tests.trainers import device_cases
from tests.trainers.device_cases import PRECISIONS, OnCPU, Run, accuracy_after_training, matrix
from tests.trainers.harness import LEARNERS
from trainers import data_parallel


@pytest.mark.parametrize(("method", "case", "precision"), matrix())
def test_every_method_runs_there_and_no_step_waits(method, case, precision, device, data_root, tmp_path):
    case(Run(device, method, precision, data_root, tmp_path))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", ["CoOp", "MMTPA"])
def test_a_run_that_was_interrupted_there_goes_on_anywhere(method, precision, device, data_root, tmp_path):
    device_cases.interrupted_there(Run(device, method, precision, data_root, tmp_path))


@pytest.fixture(scope="session")
def on_the_cpu(data_root, tmp_path_factory):
    """The accuracy of a method that was trained there, in fp32."""

    @functools.cache
    def accuracy(method):
        return accuracy_after_training(
            Run(OnCPU(), method, "fp32", data_root, tmp_path_factory.mktemp(method))
        )

    return accuracy


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", LEARNERS)
def test_training_there_reaches_the_accuracy_of_the_cpu(
    method, precision, device, on_the_cpu, data_root, tmp_path
):
    accuracy = accuracy_after_training(Run(device, method, precision, data_root, tmp_path))
    assert accuracy == pytest.approx(on_the_cpu(method), abs=1.5)


def test_a_gradient_that_overflows_is_skipped_as_on_the_cpu(device, data_root, tmp_path):
    """The loss scale, too, is that of the CPU after the same steps."""

    def train(run, output):
        trainer = run.make(output=output)
        trainer.scaler = torch.amp.GradScaler(trainer.device.type, init_scale=2.0**60)
        run.steps(trainer, epochs=3)
        return trainer

    there = train(Run(device, "CoOp", "amp", data_root, tmp_path), "there")
    here = train(Run(OnCPU(), "CoOp", "amp", data_root, tmp_path), "here")
    assert there.scaler.get_scale() == here.scaler.get_scale() == 2.0**57
    assert torch.equal(there.model.context.ctx.cpu(), here.model.context.ctx)


@pytest.fixture
def words(device, data_root):
    """Of a command: one shot of the bundled digits."""
    return [
        *("DATALOADER.TRAIN_X.BATCH_SIZE", 5, "DATALOADER.NUM_WORKERS", 2, "OPTIM.MAX_EPOCH", 1),
        *("USE_CUDA", device.use_cuda),
    ]


def command(root, *words):
    """Run it; what it prints is shown where it fails."""
    ended = subprocess.run(
        [sys.executable, *map(str, words)], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def assert_ran_on(device, record):
    assert record["metrics"]["accuracy"] > 10
    assert record["peak_memory"]["of"] == ("cuda" if device.use_cuda else "process")


def test_torchrun_with_one_process(device, words, root, data_root, tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 1, "train.py", "--seed", 1]
    files = ["--dataset-config-file", "configs/datasets/handwritten_digits.yaml"]
    files += ["--config-file", "configs/trainers/MMTPA/mini.yaml", "--trainer", "MMTPA"]
    folders = ["--root", data_root, "--output-dir", tmp_path / "run"]
    command(root, *launch, *files, *folders, "DATASET.NUM_SHOTS", 1, *words)
    assert_ran_on(device, json.loads((tmp_path / "run" / "result.json").read_text()))


def test_collectives_of_one_process(device, data_root, tmp_path):
    """NCCL for what is on the device, gloo for what is not, as a run of several processes has them."""
    where = "cuda" if device.use_cuda else "cpu"
    backends = "cpu:gloo,cuda:nccl" if device.use_cuda else "gloo"
    dist.init_process_group(backends, init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        rows = torch.randn(3, 4).to(where).requires_grad_()
        gathered = data_parallel._Gather.apply(rows, 3)
        (gathered * 2).sum().backward()
        assert torch.equal(gathered, rows)
        assert torch.equal(rows.grad, torch.full_like(rows, 2.0))
        for tensor in (torch.ones(2), torch.ones(2).to(where)):
            dist.all_reduce(tensor)
            dist.broadcast(tensor, src=0)
            assert tensor.tolist() == [1.0, 1.0]
    finally:
        dist.destroy_process_group()


def test_four_runs_at_a_time_on_one_device(device, words, root, data_root, tmp_path):
    grid = ["fewshot", "--trainers", "CoOp/mini", "MMTPA/mini", "--seeds", 1, 2, "--shots", 1]
    where = ["--gpus", *(["0"] if device.use_cuda else []), "--jobs", 4]
    folders = ["--datasets", "handwritten_digits", "--root", data_root, "--output", tmp_path]
    command(root, "tools/launch.py", *grid, *folders, *where, "--opts", *words)
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert len([record for record in records if record["kind"] == "train"]) == 4
    for record in records:
        assert_ran_on(device, record)


def test_with_workers_all_is_there_and_no_step_waits(device, data_root, tmp_path):
    """With several workers, as users run it."""
    run = Run(device, "MMTPA", "fp16", data_root, tmp_path)
    trainer = run.make("DATALOADER.NUM_WORKERS", 2)
    tensors = [*trainer.model.parameters(), *trainer.model.buffers(), *trainer.model.clip.parameters()]
    assert {tensor.device.type for tensor in tensors} == {"cuda" if device.use_cuda else "cpu"}
    device_cases.strict(trainer, device)
    device_cases.fit(trainer)
