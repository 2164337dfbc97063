import io
import multiprocessing
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, SimpleNet, TrainerX, build_trainer
from dassl.engine import trainer as trainer_module
from dassl.modeling import BACKBONE_REGISTRY
from dassl.modeling.backbone import Backbone
from dassl.utils import collectives, load_checkpoint

from .plugin import LINE, NUMBER, Tiny, tiny_cfg, train


def test_a_trainer_for_one_process_is_not_started_in_several(root, tmp_path, monkeypatch):
    monkeypatch.setattr(collectives, "count", lambda: 2)
    with pytest.raises(ValueError, match="Tiny trains in one process, not in 2: start it without torchrun"):
        build_trainer(tiny_cfg(root, tmp_path))


@pytest.mark.parametrize("method", ["train", "test"])
def test_no_worker_outlives_a_run(method, root, tmp_path):
    """In a notebook the garbage collector would find them, and wait five seconds for each."""
    options = ["DATALOADER.NUM_WORKERS", 1, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 2]
    trainer = build_trainer(tiny_cfg(root, tmp_path, *options))
    started, test = [], trainer.model_inference

    def model_inference(images):
        started.append(len(multiprocessing.active_children()))
        return test(images)

    trainer.model_inference = model_inference
    before = multiprocessing.active_children()
    getattr(trainer, method)()
    assert max(started) > len(before)
    assert multiprocessing.active_children() == before


def test_hooks_come_in_the_originals_order(root, tmp_path):
    calls = []

    class Recorded(Tiny):
        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if callable(value) and not name.startswith("_") and hasattr(TrainerX, name):
                calls.append(name)
            return value

    TRAINER_REGISTRY.register(Recorded, force=True)
    train(tiny_cfg(root, tmp_path, "TRAINER.NAME", "Recorded", "OPTIM.MAX_EPOCH", 2))

    def step(last):
        return (
            ["forward_backward", "parse_batch_train"]
            + [
                "model_backward_and_update",
                "model_zero_grad",
                "model_backward",
                "detect_anomaly",
                "model_update",
            ]
            + ["update_lr"] * last
        )

    beside = {"get_model_names", "get_current_lr", "write_scalar", "get_extra_state", "set_extra_state"}
    epoch = ["before_epoch", "run_epoch", "set_model_mode"] + step(False) * 3 + step(True) + ["after_epoch"]
    assert [name for name in calls if name not in beside] == (
        ["check_cfg", "build_data_loader", "build_model", "register_model"]
        + ["train", "before_train", "resume_model_if_exist", "init_writer"]
        + epoch * 2
        + ["save_model", "after_train"]
        + ["test", "set_model_mode", "parse_batch_test", "model_inference"]
        + ["close_writer"]
    )


def test_attributes_files_and_lines(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    trainer = train(tiny_cfg(root, tmp_path, "TRAIN.CHECKPOINT_FREQ", 2))

    assert trainer.lab2cname == {0: "vertical", 1: "horizontal"}
    assert trainer.classnames == ["vertical", "horizontal"]
    assert (trainer.num_classes, trainer.num_source_domains) == (2, 0)
    assert (trainer.start_epoch, trainer.epoch, trainer.max_epoch) == (0, 2, 3)
    assert (trainer.num_batches, trainer.batch_idx) == (4, 3)
    assert trainer.device == torch.device("cpu")
    assert trainer.dm.dataset.test is not None
    assert len(trainer.val_loader) == 1
    assert trainer.train_loader_u is not None
    assert trainer.evaluator._y_true == [0, 0, 0, 1, 1, 1]

    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files - {name for name in files if name.startswith("tensorboard/events.out")} == {
        "tiny/model.pth.tar-2",
        "tiny/model.pth.tar-3",
        "tiny/checkpoint",
    }
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert (tmp_path / "tiny" / "checkpoint").read_text() == "model.pth.tar-3\n"
    checkpoint = torch.load(tmp_path / "tiny" / "model.pth.tar-3", weights_only=True)
    assert set(checkpoint) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
    assert checkpoint["epoch"] == 3

    out = capsys.readouterr().out.splitlines()
    progress = [LINE.fullmatch(line) for line in out if line.startswith("epoch")]
    assert [match.groups() for match in progress] == [(e, b) for e in "123" for b in "24"]
    rates = [line.split(" lr ")[1].split()[0] for line in out if line.startswith("epoch")]
    assert rates[:5:2] == ["1.0000e-05", "5.0000e-02", "3.7500e-02"]
    start = out.index("Finish training")
    assert "No checkpoint found, train from scratch" in out
    assert out[start + 1 : start + 4] == [
        "Deploy the last-epoch model",
        "Evaluate on the *test* set",
        "=> result",
    ]
    assert out[start + 4] == "* total: 6"
    assert re.fullmatch(r"Elapsed: \d:\d\d:\d\d", out[-1])
    assert sys.stderr.getvalue() == ""


def test_load_model_and_evaluate(root, tmp_path, capsys):
    options = "TRAIN.CHECKPOINT_FREQ", 1, "TEST.FINAL_MODEL", "best_val"
    trained = train(tiny_cfg(root, tmp_path, *options))
    accuracy = trained.test()
    assert "Deploy the model with the best val performance" in capsys.readouterr().out

    fresh = build_trainer(tiny_cfg(root, tmp_path / "other"))
    fresh.load_model(str(tmp_path))
    assert fresh.test() == accuracy
    loaded = capsys.readouterr().out
    assert re.search(rf"Load \S+model-best\.pth\.tar to tiny \(epoch=\d, val_result={NUMBER}\)", loaded)
    fresh.load_model(str(tmp_path), epoch=1)
    assert "model.pth.tar-1 to tiny (epoch=1, val_result=None)" in capsys.readouterr().out
    assert fresh.test(split="val") == fresh.test(split="val")
    fresh.load_model("")
    assert "load_model() is skipped" in capsys.readouterr().out

    with pytest.raises(FileNotFoundError) as error:
        fresh.load_model(str(tmp_path), epoch=7)
    assert str(error.value) == (
        f"no model at {tmp_path}/tiny/model.pth.tar-7: there is epoch 1, epoch 2, epoch 3, model-best.pth.tar"
    )
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in that folder"):
        fresh.load_model(str(tmp_path / "nowhere"))


def test_checkpoint_with_numpy_scalars(root, tmp_path):
    trainer = build_trainer(tiny_cfg(root, tmp_path))
    weights = {key: value + 1 for key, value in trainer.model.state_dict().items()}
    (tmp_path / "tiny").mkdir()
    torch.save(
        {"state_dict": weights, "epoch": np.int64(5), "val_result": np.float64(81.25)},
        tmp_path / "tiny" / "model.pth.tar-5",
    )
    trainer.load_model(str(tmp_path), epoch=5)
    assert torch.equal(trainer.model.fc.weight, weights["fc.weight"])


def test_checkpoint_that_does_not_fit(root, tmp_path):
    trainer = build_trainer(tiny_cfg(root, tmp_path))
    path = tmp_path / "tiny" / "model.pth.tar-1"
    path.parent.mkdir()
    weights = trainer.model.state_dict()
    for change, message in [
        ({"fc.weight": torch.zeros(3, 6)}, r"size mismatch for fc\.weight.*\[3, 6\].*\[2, 6\]"),
        ({"head.weight": torch.zeros(1)}, r"lacks nothing, and the model has no head\.weight"),
    ]:
        torch.save({"state_dict": {**weights, **change}, "epoch": 1}, path)
        with pytest.raises(ValueError, match=message) as error:
            trainer.load_model(str(tmp_path), epoch=1)
        assert str(error.value).startswith(f"{path} does not fit the model: ")
        assert "\n" not in str(error.value)
    del weights["fc.bias"]
    torch.save({"state_dict": weights, "epoch": 1}, path)
    with pytest.raises(ValueError, match=r"lacks fc\.bias, and the model has no nothing"):
        trainer.load_model(str(tmp_path), epoch=1)


def test_who_learns_nothing_is_told_so_before_anything_is_written(root, tmp_path):
    class Zeroshot(TrainerX):
        def build_model(self):
            self.model = nn.Linear(2, 2)

    TRAINER_REGISTRY.register(Zeroshot, force=True)
    trainer = build_trainer(tiny_cfg(root, tmp_path / "run", "TRAINER.NAME", "Zeroshot"))
    with pytest.raises(ValueError, match=r"^Zeroshot learns nothing .*evaluate it with --eval-only"):
        trainer.train()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("output", ["file/run", "/proc"])
def test_output_folder_that_cannot_be_written(root, tmp_path, output):
    (tmp_path / "file").write_text("in the way")
    trainer = build_trainer(tiny_cfg(root, tmp_path / output))
    with pytest.raises(OSError, match=rf"{output}\b.*(directory|denied)") as error:
        trainer.train()
    assert "\n" not in str(error.value)
    assert not hasattr(trainer, "batch_idx")


def test_labelled_and_unlabelled_batches(root, tmp_path, capsys):
    options = "TRAINER.NAME", "TinyXU", "DATALOADER.TRAIN_U.SAME_AS_X", False
    cfg = tiny_cfg(root, tmp_path, *options, "DATALOADER.TRAIN_U.BATCH_SIZE", 8)
    for count, expected in (("train_x", 4), ("train_u", 2), ("smaller_one", 2)):
        cfg.TRAIN.COUNT_ITER = count
        cfg.OUTPUT_DIR = str(tmp_path / count)
        assert train(cfg).num_batches == expected
    assert re.search(rf"loss {NUMBER} \({NUMBER}\) loss_u {NUMBER}", capsys.readouterr().out)
    cfg.TRAIN.COUNT_ITER = "larger_one"
    cfg.OUTPUT_DIR = str(tmp_path / "unknown")
    with pytest.raises(ValueError, match=r'unknown TRAIN\.COUNT_ITER "larger_one"'):
        train(cfg)


def test_model_table(root, tmp_path):
    trainer = build_trainer(tiny_cfg(root, tmp_path))
    with pytest.raises(ValueError, match='there is a model "tiny" already'):
        trainer.register_model("tiny", nn.Identity())
    with pytest.raises(ValueError, match='no model "large", there are tiny'):
        trainer.get_model_names("large")
    trainer.register_model("frozen", nn.Identity())
    assert trainer.get_model_names() == ["tiny", "frozen"]
    assert trainer.get_current_lr() == 1e-5
    trainer.set_model_mode("test", ["tiny"])
    assert not trainer.model.training
    with pytest.raises(KeyError, match="unknown mode"):
        trainer.set_model_mode("training")
    with pytest.raises(AttributeError, match="after super"):
        TrainerX.register_model(object.__new__(TrainerX), "early", nn.Identity())


def test_default_model_is_a_simple_net(root, tmp_path, capsys):
    @BACKBONE_REGISTRY.register(force=True)
    def pixels_of_a_test(pretrained=True, **kwargs):
        class Pixels(Backbone):
            _out_features = 48

            def forward(self, x):
                return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

        return Pixels()

    @TRAINER_REGISTRY.register(force=True)
    class Supervised(TrainerX):
        def forward_backward(self, batch):
            input, label, _ = self.parse_batch_train(batch)
            loss = nn.functional.cross_entropy(self.model(input), label)
            self.model_backward_and_update(loss)
            return {"loss": loss.item()}

    options = ["TRAINER.NAME", "Supervised", "MODEL.BACKBONE.NAME", "pixels_of_a_test"]
    options += ["MODEL.HEAD.NAME", "mlp", "MODEL.HEAD.HIDDEN_LAYERS", (8,), "TEST.PER_CLASS_RESULT", True]
    trainer = train(tiny_cfg(root, tmp_path, *options))
    assert isinstance(trainer.model, SimpleNet)
    scores, features = trainer.model(torch.rand(2, 3, 16, 16), return_feature=True)
    assert (scores.shape, features.shape, trainer.model.fdim) == ((2, 2), (2, 8), 8)
    out = capsys.readouterr().out
    assert f"# params: {48 * 8 + 8 + 8 + 8 + 8 * 2 + 2:,}" in out
    assert "* class: 1 (horizontal)\ttotal: 3" in out

    path = Path(tmp_path) / "model" / "model.pth.tar-3"
    cfg = tiny_cfg(root, tmp_path / "again", *options, "MODEL.INIT_WEIGHTS", str(path))
    again = build_trainer(cfg).model.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in load_checkpoint(path)["state_dict"].items())
    features_only = SimpleNet(cfg, cfg.MODEL, 0)
    assert features_only(torch.rand(2, 3, 16, 16)).shape == (2, 8)


def test_names_that_plugins_import():
    for name in ("SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU"):
        assert hasattr(trainer_module, name)


def test_unknown_trainer_lists_those_there_are(root, tmp_path):
    with pytest.raises(ValueError, match="Tiny"):
        build_trainer(tiny_cfg(root, tmp_path, "TRAINER.NAME", "Tyni"))


def test_the_test_set_never_chooses_the_model(root, tmp_path, monkeypatch):
    """Without validation images, Dassl's test(split="val") is one on the test images."""
    monkeypatch.setattr(DATASET_REGISTRY.get("Stripes"), "val", None)
    trainer = build_trainer(tiny_cfg(root, tmp_path, "TEST.FINAL_MODEL", "best_val"))
    with pytest.raises(ValueError) as caught:
        trainer.train()
    assert str(caught.value) == (
        "TEST.FINAL_MODEL is 'best_val', but Stripes has no validation images to choose by:"
        " take 'last_step', or a data set that has some"
    )
    assert not (tmp_path / "tiny").exists()
    trainer.test()  # an evaluation chooses nothing
    assert trainer.test(split="val") == trainer.test(split="test")  # as plugins know it


def test_test_images_are_not_called_validation_images(root, tmp_path, monkeypatch):
    monkeypatch.setattr(DATASET_REGISTRY.get("Stripes"), "val", None)
    trainer = build_trainer(tiny_cfg(root, tmp_path, "TEST.SPLIT", "val"))
    for run in (trainer.train, trainer.test):
        with pytest.raises(
            ValueError, match=r"TEST.SPLIT is 'val', but Stripes has no validation images: take 'test'"
        ):
            run()
    assert not (tmp_path / "tiny").exists()
