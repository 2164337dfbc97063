"""2SFS: what each stage trains, which row or text a class is tested with, and how a run goes on in either stage."""

import signal
from pathlib import Path

import pytest
import torch

from clip import CLIP
from dassl.engine import build_trainer
from tests.clip import tiny
from tests.clip.test_image_tower import resnet
from tests.trainers.harness import assert_close, build, evaluate, fit, interrupt, learned, load, make_cfg
from trainers.checkpoint import load_learned
from trainers.twosfs import TwoStageModel, names_of
from trainers.unit import unit

TRAINER = "TwoStageFewShot"
BASE = ["DATASET.SUBSAMPLE_CLASSES", "base"]


@pytest.fixture(scope="module")
def towers():
    return CLIP(tiny.model(tiny.state_dict(64, 64, 32, layers=3)), "tiny")


@pytest.fixture
def model(make):
    cfg = make(TRAINER).cfg

    def model(towers, **options):
        cfg.defrost()
        for name, value in options.items():
            cfg.TRAINER.TWOSFS[name] = value
        return TwoStageModel(cfg, towers, ["a cat", "old_dogs", "sea or lake"], "a blurry {}.")

    return model


@pytest.fixture(scope="module")
def of_base(data_root, tmp_path_factory):
    """A trainer after both stages, of one epoch each, on the five base classes."""
    folder = tmp_path_factory.mktemp("base")
    opts = [*BASE, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.02, "TRAIN.CHECKPOINT_FREQ", 1]
    return fit(build(make_cfg(TRAINER, data_root, folder, *opts)))


@pytest.mark.parametrize(("variant", "count"), [("release", 61_440), ("paper", 65_536)])
def test_the_published_number_of_parameters(variant, count):
    """Of ViT-B/16, by its widths and depth; all norms are meant in the paper."""
    names = {kind: names_of(kind, "ln", range(12), variant == "release") for kind in ("vision", "text")}
    assert 768 * len(names["vision"]) + 512 * len(names["text"]) == count


@pytest.mark.parametrize(
    ("options", "tuned"),
    [
        ({"LN_MODALITY": "text", "LN_TEXT_START": 2}, ["2.ln_1", "2.ln_2"]),
        ({"LN_MODALITY": "vision", "VARIANT": "paper", "LN_VISION_START": 2}, ["2.ln_1", "2.ln_2", "ln_post"]),
        (
            {"PEFT": "bitfit", "ENCODER": "text", "LN_TEXT_START": 2},
            ["2.o", "2.fc", "2.proj", "2.ln_1", "2.ln_2", "ln_final"],
        ),
        ({"PEFT": "lora", "ENCODER": "vision", "POSITION": "top3", "PARAMS": ("q",)}, ["2.q"]),
    ],
)  # fmt: skip
def test_what_is_tuned_and_of_which_blocks(options, tuned, model, towers):
    built = model(towers, **{"VARIANT": "release", **options})
    weights = [changes.weights for changes in (built.text_changes(), built.image_changes())]
    found = {name.removeprefix("blocks.").rpartition(".")[0] for side in weights for name in side}
    assert found == set(tuned)
    assert not all(weights)  # of the one tower alone


def test_bitfit_as_it_is_meant_has_every_bias_of_a_block(towers):
    kinds = {name.rpartition(".")[2] for name in names_of("vision", "bitfit", range(1), released=False)}
    assert kinds == {"bias"}
    of_block = dict(towers.image.visual.transformer.resblocks[0].named_parameters())
    biases = [value for name, value in of_block.items() if "bias" in name]
    names = [name for name in names_of("vision", "bitfit", range(1), released=False) if "blocks" in name]
    assert sorted(towers.image.weight(name).shape for name in names) == sorted(b.shape for b in biases)


@pytest.mark.parametrize("peft", ["ln", "bitfit", "lora"])
def test_each_stage_trains_its_own(peft, data_root, tmp_path):
    """And the second begins at the texts of the towers that the first has left."""
    opts = ["TRAINER.TWOSFS.PEFT", peft, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.02, "OPTIM.NAME", "adamw"]
    trainer = build(make_cfg(TRAINER, data_root, tmp_path, *opts))
    trainer.set_model_mode("eval")
    seen = []

    def watch(begin=trainer.before_epoch):
        begin()
        trainer.set_model_mode("eval")
        texts = trainer.model.texts().branch, super(TwoStageModel, trainer.model).encode_texts()
        seen.append((learned(trainer), texts[1].detach()))

    trainer.before_epoch = watch
    fit(trainer)
    (start, _), (middle, texts), end = seen[0], seen[1], learned(trainer)
    assert not start["classifier"].any()
    assert_close(middle["classifier"], unit(texts), 1e-5)
    assert not torch.equal(end["classifier"], middle["classifier"])
    tuned = [name for name in start if name.startswith("tuned")]
    assert any(not torch.equal(middle[name], start[name]) for name in tuned)
    assert all(torch.equal(end[name], middle[name]) for name in tuned)


def test_a_class_is_tested_by_its_row_where_it_has_one_and_else_by_its_text(of_base, make, images):
    base, folder = evaluate(of_base, images), of_base.cfg.OUTPUT_DIR
    of_texts = load(make(TRAINER, output="all"), folder, epoch=1)  # of stage I: the same towers, no row
    by_text = evaluate(of_texts, images)
    everything = load(make(TRAINER, output="all"), folder)
    logits = evaluate(everything, images)
    assert_close(logits[:, :5], base, 1e-5)
    assert_close(logits[:, 5:], by_text[:, 5:], 1e-5)
    assert (logits[:, :5] - by_text[:, :5]).abs().max() > 0.01 * by_text.abs().max()

    new = load(make(TRAINER, "DATASET.SUBSAMPLE_CLASSES", "new", output="new"), folder)
    assert_close(evaluate(new, images), logits[:, 5:], 1e-5)
    in_chunks = load(make(TRAINER, "TEST.CLASS_CHUNK", 4, "TEST.TOP_K", 10, output="chunks"), folder)
    best = evaluate(in_chunks, images)
    assert_close(best.logits, logits.gather(1, best.classes), 1e-5)


def test_rows_are_found_by_their_names_and_saved_again(of_base, images):
    """In another order, among new classes, and from what a model of those has saved."""
    cfg, clip = of_base.cfg, of_base.model.clip
    names = ["nine", "one", "zero"]
    first, second = (TwoStageModel(cfg, clip, names, "").eval() for _ in range(2))
    load_learned(first, of_base.model.state_dict(), "base")
    load_learned(second, first.state_dict(), "first")
    base = evaluate(of_base, images)
    for model in (first, second):
        with torch.no_grad():
            logits = model.logits(images, model.encode_texts())
        assert model.about["classifier_of"] == ["one", "zero"]
        assert_close(logits[:, 1:], base[:, [1, 0]], 1e-5)


def test_a_run_goes_on_between_its_stages(data_root, tmp_path):
    opts = ["OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.02, "OPTIM.LR_STEPS", True, "OPTIM.NAME", "adamw"]
    opts += ["OPTIM.LR_SCHEDULER", "cosine"]
    straight = fit(build(make_cfg(TRAINER, data_root, tmp_path / "straight", *opts)))
    interrupt(build(make_cfg(TRAINER, data_root, tmp_path / "resumed", *opts)), 1)
    resumed = fit(build(make_cfg(TRAINER, data_root, tmp_path / "resumed", *opts)))
    assert resumed.start_epoch == 1
    assert all(torch.equal(value, learned(straight)[name]) for name, value in learned(resumed).items())


def test_a_run_goes_on_in_the_middle_of_the_first_epoch_of_the_second_stage(data_root, tmp_path):
    opts = ["OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.02, "DATALOADER.TRAIN_X.BATCH_SIZE", 4]
    straight = fit(build(make_cfg(TRAINER, data_root, tmp_path / "straight", *opts)))
    stopped = build(make_cfg(TRAINER, data_root, tmp_path / "resumed", *opts))
    step = stopped.forward_backward

    def forward_backward(batch):
        summary = step(batch)
        if (stopped.epoch, stopped.batch_idx) == (1, 1):
            signal.raise_signal(signal.SIGINT)
        return summary

    stopped.forward_backward = forward_backward
    with pytest.raises(KeyboardInterrupt):
        fit(stopped)
    resumed = build(make_cfg(TRAINER, data_root, tmp_path / "resumed", *opts))
    first, step_again = [], resumed.forward_backward
    resumed.forward_backward = lambda batch: (first.append(resumed.batch_idx), step_again(batch))[1]
    fit(resumed)
    assert (resumed.start_epoch, first[0]) == (1, 2)
    assert all(torch.equal(value, learned(straight)[name]) for name, value in learned(resumed).items())


def test_training_anew_from_a_checkpoint_of_other_classes(of_base, make):
    file = Path(of_base.cfg.OUTPUT_DIR) / of_base.model_name / "model.pth.tar-2"
    trainer = make(TRAINER, "MODEL.INIT_WEIGHTS", str(file), "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.02)
    assert trainer.model.about["classifier_of"] == ["zero", "one", "two", "three", "four"]
    fit(trainer)
    assert trainer.model.about["classifier_of"] == trainer.dm.dataset.classnames
    assert torch.isfinite(trainer.model.classifier).all()


def test_what_does_not_go_is_one_line(model, towers):
    with pytest.raises(
        ValueError, match=r"^LN_MODALITY is 'both', the image tower of MODEL.BACKBONE.NAME 'resnet'"
    ):
        model(resnet()[1])
    with pytest.raises(
        ValueError, match=r"^ENCODER is 'vision', the image tower of MODEL.BACKBONE.NAME 'resnet'"
    ):
        model(resnet()[1], PEFT="lora", ENCODER="vision")
    with pytest.raises(ValueError, match=r"^LN_TEXT_START is 3, tiny has blocks 0 to 2$"):
        model(towers, PEFT="ln", LN_TEXT_START=3)


def test_a_stage_without_an_epoch_is_warned_of(data_root, tmp_path, capsys):
    for epochs, share, warned in ((1, 0.6, True), (1, 1.0, False), (2, 0.6, False)):
        opts = ["OPTIM.MAX_EPOCH", epochs, "TRAINER.TWOSFS.N_ITERS_FRAC", share]
        build_trainer(make_cfg(TRAINER, data_root, tmp_path, *opts))
        said = f"of {epochs} epochs (OPTIM.MAX_EPOCH) none is left for stage II"
        assert (said in capsys.readouterr().out) == warned
