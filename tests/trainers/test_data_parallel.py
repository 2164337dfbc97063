"""Several processes give what one process gives for the same batches: every method, by gloo on the CPU."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import clip
from tests import copies
from tests.trainers.harness import LEARNERS, assert_close, build, evaluate, learned, make_cfg
from trainers import data_parallel

STEPS = 2
RUNS: dict[str, tuple[str, list[object]]] = {method: (method, []) for method in LEARNERS} | {
    "KgCoOp of sampled classes": ("KgCoOp", ["TRAINER.CLASS_SAMPLE", 8]),
    "MMTPA of sampled classes in chunks": ("MMTPA", ["TRAINER.CLASS_SAMPLE", 8, "MODEL.TEXT_CHUNK", 2]),
    "CoOp with a context for each class": ("CoOp", ["TRAINER.COOP.CSC", True, "TRAINER.COOP.CTX_INIT", ""]),
}
#: Three processes run everything, two these: what is divided, and how it comes together again, has other shapes there.
OF_TWO = (
    "CoOp",
    "CoCoOp",
    "KgCoOp of sampled classes",
    "MMTPA of sampled classes in chunks",
    "CoOp with a context for each class",
)
AMP: tuple[str, list[object]] = (
    "MaPLe",
    ["TRAINER.MAPLE.PREC", "amp"],
)  #: rounds, and skips steps, in its own way


def run(method: str, data_root: Path, folder: Path, batch: int, *opts: object) -> dict[str, Any]:
    """Some steps of training and an evaluation: all that a run computes."""
    options = ["DATALOADER.TRAIN_X.BATCH_SIZE", batch, "DATASET.NUM_SHOTS", 4, *opts]
    trainer = build(make_cfg(method, data_root, folder, *options))
    gradients, summaries = [], []
    trainer.set_model_mode("train")
    trainer.epoch, trainer.num_batches = 0, len(trainer.train_loader_x)
    for step, images in zip(range(STEPS), trainer.train_loader_x):
        trainer.batch_idx = step
        summaries.append({key: float(value) for key, value in trainer.forward_backward(images).items()})
        parameters = trainer.model.named_parameters()
        gradients.append({name: p.grad.clone() for name, p in parameters if p.grad is not None})
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {
        "learned": learned(trainer),
        "gradients": gradients,
        "summaries": summaries,
        "logits": evaluate(trainer, images),
    }


def runs_of(count: int) -> dict[str, tuple[str, list[object]]]:
    return {name: RUNS[name] for name in (OF_TWO if count == 2 else RUNS)}


def every_method(rank: int, count: int, batch: int, folder: str, data_root: str) -> None:
    torch.set_num_threads(1)
    clip.load = functools.cache(clip.load)  # as in the process of the tests: loading draws random numbers
    clip.load("mini", "fp32")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    for name, (method, opts) in {**runs_of(count), "amp": AMP}.items():
        result = run(method, Path(data_root), Path(folder) / name, batch, *opts)
        torch.save(result, f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


# Batches that two and three processes share unequally.
WAYS = {"two": (2, 5), "three": (3, 8)}


@pytest.fixture(scope="module")
def results(data_root, tmp_path_factory):
    """`results(way)`: the batch size, and a function from a run to what each process has of it. Run once."""

    @functools.cache
    def of_way(way: str) -> tuple[int, Any]:
        count, batch = WAYS[way]
        folder = tmp_path_factory.mktemp(way)
        run("CoOp", data_root, folder / "first", batch)  # makes the data
        copies.spawn(every_method, (count, batch, str(folder), str(data_root)), nprocs=count)
        return batch, lambda name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(count)]

    return of_way


@pytest.mark.parametrize(
    ("way", "name"), [(way, name) for way, (count, _) in WAYS.items() for name in runs_of(count)]
)
def test_they_train_and_evaluate_as_one(way, name, results, data_root, tmp_path):
    batch, of_run = results(way)
    method, opts = RUNS[name]
    one = run(method, data_root, tmp_path, batch, *opts)
    ranks = of_run(name)
    for several in ranks:
        for step in range(STEPS):
            assert several["summaries"][step] == pytest.approx(one["summaries"][step], rel=1e-5)
            assert several["gradients"][step].keys() == one["gradients"][step].keys()
            for name, gradient in several["gradients"][step].items():
                # CLIP-LoRA's come through all blocks of both towers, and are some 1e-5 themselves
                tolerance = 5e-5 if method == "CLIPLoRA" else 1e-5
                assert_close(gradient, one["gradients"][step][name], tolerance)
        for name, value in several["learned"].items():
            assert_close(value, one["learned"][name], 1e-5)
            assert torch.equal(value, ranks[0]["learned"][name])  # they stay the same model
        assert_close(several["logits"], one["logits"], 1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_with_loss_scaling_they_stay_one_model(way, results):
    first, *others = results(way)[1]("amp")
    for other in others:
        assert other["summaries"] == first["summaries"]
        for name, value in other["learned"].items():
            assert torch.isfinite(value).all()
            assert torch.equal(value, first["learned"][name])


@pytest.mark.parametrize("total", [1, 5, 12])
def test_one_process_has_everything(total):
    assert list(data_parallel.share(total)) == list(range(total))
    rows = torch.randn(total, 3)
    assert data_parallel.gather(rows, total) is rows
