"""Checkpoints: ours, other people's, and wrong ones."""

import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

import clip
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint
from tests.clip import tiny
from tests.trainers.harness import LEARNERS, build, evaluate, fit, learned, load, make_cfg


@pytest.fixture(scope="module")
def coop(data_root, tmp_path_factory):
    """The folder of a CoOp run over two epochs, both saved."""
    folder = tmp_path_factory.mktemp("coop")
    options = ["TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 2, "TRAINER.COOP.N_CTX", 4]
    fit(build(make_cfg("CoOp", data_root, folder, *options)))
    return folder


def refuses(trainer, folder, kind, *words, epoch=None):
    """``load_model`` raises one line with all words, and changes nothing."""
    before = learned(trainer)
    with pytest.raises(kind) as error:
        load(trainer, folder, epoch)
    assert "\n" not in str(error.value)
    for word in words:
        assert str(word) in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in learned(trainer).items())


def write(state, folder, name="prompt_learner"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / name / "model.pth.tar-1")
    return folder


FOUR = ("TRAINER.COOP.N_CTX", 4)


def test_the_epoch_that_is_asked_for_is_loaded(coop, make):
    trainer = make("CoOp", *FOUR)
    for epoch in (1, 2):
        expected = load_checkpoint(coop / "prompt_learner" / f"model.pth.tar-{epoch}")["state_dict"][
            "context.ctx"
        ]
        assert torch.equal(load(trainer, coop, epoch).model.context.ctx, expected)
    assert torch.equal(load(trainer, coop).model.context.ctx, expected)


def test_the_best_model_comes_before_the_newest(coop, make, tmp_path):
    shutil.copytree(coop, tmp_path / "copy")
    folder = tmp_path / "copy" / "prompt_learner"
    (folder / "model.pth.tar-1").rename(folder / "model-best.pth.tar")
    expected = load_checkpoint(folder / "model-best.pth.tar")["state_dict"]["context.ctx"]
    assert torch.equal(load(make("CoOp", *FOUR), tmp_path / "copy").model.context.ctx, expected)


def test_a_missing_checkpoint_says_what_is_there(coop, make, tmp_path):
    trainer = make("CoOp", *FOUR)
    refuses(trainer, coop, FileNotFoundError, "model.pth.tar-7", "1, 2", epoch=7)
    refuses(trainer, tmp_path / "nowhere", FileNotFoundError, tmp_path / "nowhere", "is no folder")
    (tmp_path / "empty").mkdir()
    refuses(trainer, tmp_path / "empty", FileNotFoundError, "there are no checkpoints")
    write({}, tmp_path / "other", "MultiModalPromptLearner")
    refuses(trainer, tmp_path / "other", FileNotFoundError, "MultiModalPromptLearner")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        make("CoOp", "MODEL.INIT_WEIGHTS", str(tmp_path / "none.pth"))


def test_without_a_folder_nothing_is_loaded(make, capsys):
    trainer = make("CoOp")
    before = learned(trainer)
    trainer.load_model("")
    assert "skipped" in capsys.readouterr().out
    assert torch.equal(learned(trainer)["context.ctx"], before["context.ctx"])


@pytest.mark.parametrize("method", [name for name in LEARNERS if name != "CoOp"])
def test_a_checkpoint_of_another_method_names_both(method, coop, make, tmp_path):
    trainer = make(method)
    shutil.copytree(coop / "prompt_learner", tmp_path / "moved" / trainer.model_name)
    refuses(trainer, tmp_path / "moved", ValueError, "trainer 'CoOp'", f"trainer '{method}'")


def test_a_checkpoint_of_another_backbone_names_both(coop, make, tmp_path):
    save_file(tiny.state_dict(layers=1), tmp_path / "clip.safetensors")  # as wide as the bundled model
    other = f"quickgelu:{tmp_path}/clip.safetensors"
    trainer = make("CoOp", *FOUR, "MODEL.BACKBONE.NAME", other)
    refuses(trainer, coop, ValueError, "backbone 'mini'", f"backbone '{other}'")


def test_class_specific_prompts_of_another_number_of_classes_name_both(make, tmp_path):
    own = [*FOUR, "TRAINER.COOP.CSC", True]
    five = fit(make("CoOp", *own, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", 1, output="five"))
    refuses(make("CoOp", *own), tmp_path / "five", ValueError, "classes '5'", "classes '10'")
    again = make("CoOp", *own, "DATASET.SUBSAMPLE_CLASSES", "base", "SEED", 3)
    assert torch.equal(load(again, tmp_path / "five").model.context.ctx, five.model.context.ctx)
    refuses(
        make("CoOp", *FOUR, "DATASET.SUBSAMPLE_CLASSES", "base"),
        tmp_path / "five",
        ValueError,
        "(5, 4, 128)",
        "(4, 128)",
    )


def test_class_specific_prompts_of_as_many_other_classes_name_the_first(make, tmp_path):
    own = [*FOUR, "TRAINER.COOP.CSC", True]
    fit(make("CoOp", *own, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", 1, output="five"))
    new = make("CoOp", *own, "DATASET.SUBSAMPLE_CLASSES", "new")
    refuses(new, tmp_path / "five", ValueError, "class 0 is 'zero' there, 'five' in this run")
    [path] = (tmp_path / "five" / "prompt_learner").glob("model.pth.tar-1")
    checkpoint = torch.load(path)
    del checkpoint["state_dict"]["_extra_state"]["class_names"]  # as of an older version
    torch.save(checkpoint, path)
    load(new, tmp_path / "five")


def test_prompts_that_classes_share_are_for_any_classes(coop, make):
    load(make("CoOp", *FOUR, "DATASET.SUBSAMPLE_CLASSES", "new"), coop)


def test_the_folder_of_checkpoints_and_a_checkpoint_serve_as_well(coop, make, tmp_path):
    trainer, folder = make("CoOp", *FOUR), coop / "prompt_learner"
    for epoch in (1, 2):
        expected = load_checkpoint(folder / f"model.pth.tar-{epoch}")["state_dict"]["context.ctx"]
        assert torch.equal(load(trainer, folder, epoch).model.context.ctx, expected)
        path = shutil.copy(folder / f"model.pth.tar-{epoch}", tmp_path / "mine.pth")
        assert torch.equal(load(trainer, path).model.context.ctx, expected)
    refuses(trainer, folder / "model.pth.tar-1", ValueError, "epoch 2", epoch=2)
    (folder / "model.pth.tar-old2").write_text("somebody's own")
    refuses(trainer, folder, FileNotFoundError, "model.pth.tar-7", "1, 2", epoch=7)


def test_another_number_of_context_tokens_names_both(coop, make):
    refuses(make("CoOp", "TRAINER.COOP.N_CTX", 6), coop, ValueError, "ctx", "(4, 128)", "(6, 128)")


def test_other_settings_of_the_method_name_what_is_missing_and_what_is_unknown(make, tmp_path):
    deep = fit(make("IVLP", "TRAINER.IVLP.PROMPT_DEPTH_VISION", 3, "OPTIM.MAX_EPOCH", 1, output="deep"))
    refuses(
        make("IVLP", "TRAINER.IVLP.PROMPT_DEPTH_VISION", 2),
        tmp_path / "deep",
        ValueError,
        "IVLP",
        "visual.deep.1",
    )
    refuses(
        make("IVLP", "TRAINER.IVLP.PROMPT_DEPTH_VISION", 4),
        tmp_path / "deep",
        ValueError,
        "lacks visual.deep.2",
    )
    assert deep.model_name == "VLPromptLearner"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 cut",
        [1, 2],
        torch.zeros(3),
        {"epoch": 1},
        {"state_dict": [1]},
        {"state_dict": {"ctx": "text"}},
        {"state_dict": {"_extra_state": 3}},
    ],
    ids=str,
)
def test_a_file_that_is_no_checkpoint_is_named(content, make, tmp_path):
    folder = write(content, tmp_path / "bad")
    if isinstance(content, bytes):
        (folder / "prompt_learner" / "model.pth.tar-1").write_bytes(content)
    refuses(make("CoOp"), folder, ValueError, folder / "prompt_learner" / "model.pth.tar-1")


# Checkpoints of the methods' releases

RELEASED = "parity/checkpoints"


@pytest.fixture(scope="module")
def wide_clip(tmp_path_factory):
    """Random, with the widths of a ViT-B/16."""
    path = tmp_path_factory.mktemp("wide") / "clip.safetensors"
    save_file(tiny.state_dict(width_text=512, width_image=64, joint=512, layers=1), path)
    return f"quickgelu:{path}"


def test_real_checkpoints_of_releases_are_accepted(shared, wide_clip, make, images):
    """Written for five classes, by the releases' own training; here there are ten classes."""
    folders = sorted((shared / RELEASED).iterdir())
    assert folders
    for folder in folders:
        [file] = folder.glob("*/model.pth.tar-*")
        state = load_checkpoint(file)["state_dict"]
        section = TRAINER_REGISTRY.get(folder.name).section
        options = ["MODEL.BACKBONE.NAME", wide_clip, f"TRAINER.{section}.N_CTX", len(state["ctx"])]

        trainer = make(folder.name, *options)
        before = evaluate(trainer, images)
        load(trainer, folder, int(file.name.rpartition("-")[2]))
        names = trainer.model.released_names()
        for name, parameter in trainer.model.named_parameters():
            assert torch.equal(parameter, state[names[name]].float()), (folder.name, name)
        logits = evaluate(trainer, images)
        assert logits.shape == (6, 10)
        assert not torch.equal(logits, before)

        initial = make(folder.name, *options, "MODEL.INIT_WEIGHTS", str(file))
        assert torch.equal(evaluate(initial, images), logits)


def test_nothing_in_a_checkpoint_is_executed(make, tmp_path):
    """A release's file holds live objects; whatever it holds is not rebuilt."""

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    ctx = torch.randn(16, 128)
    folder = write({"state_dict": {"ctx": ctx}, "epoch": 1, "scheduler": Harmful()}, tmp_path / "bad")
    trainer = load(make("CoOp"), folder)
    assert torch.equal(trainer.model.context.ctx, ctx)
    assert not (tmp_path / "executed").exists()


def test_a_release_in_half_precision_beside_all_of_clip(make, tmp_path):
    ctx = torch.randn(16, 128)
    state = {
        "ctx": ctx.half(),
        "token_prefix": torch.zeros(5, 1, 128),
        "token_suffix": torch.zeros(5, 60, 128),
        "image_encoder.conv1.weight": torch.zeros(3),
        "text_encoder.transformer.resblocks.0.ln_1.weight": torch.zeros(3),
        "logit_scale": torch.zeros(()),
    }
    trainer = load(make("CoOp"), write({"state_dict": state, "epoch": 1}, tmp_path / "release"))
    assert torch.equal(trainer.model.context.ctx, ctx.half().float())
    assert trainer.model.context.ctx.dtype == torch.float32


def test_a_release_that_holds_too_much_or_too_little_is_named(make, tmp_path):
    ctx = torch.randn(16, 128)
    trainer = make("CoOp")
    refuses(
        trainer,
        write({"state_dict": {"ctx": ctx, "meta_net.linear1.bias": ctx}}, tmp_path / "1"),
        ValueError,
        "meta_net",
    )
    refuses(
        trainer, write({"state_dict": {"token_prefix": ctx}}, tmp_path / "2"), ValueError, "CoOp", "lacks ctx"
    )
    refuses(
        trainer,
        write({"state_dict": {"ctx": ctx[:, :64]}}, tmp_path / "3"),
        ValueError,
        "(16, 64)",
        "(16, 128)",
        "mini",
    )


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_checkpoint_that_is_not_finite_is_named(coop, make, tmp_path, value):
    shutil.copytree(coop, tmp_path / "wrong")
    for path in (tmp_path / "wrong").rglob("model.pth.tar-[0-9]"):
        checkpoint = torch.load(path)
        checkpoint["state_dict"]["context.ctx"][1, 2] = value
        torch.save(checkpoint, path)
    refuses(
        make("CoOp", *FOUR), tmp_path / "wrong", ValueError, "context.ctx holds numbers that are not finite"
    )


def test_the_backbone_is_seen_and_neither_saved_nor_trained(make):
    model = make("CoOp").model
    assert isinstance(model.clip, clip.CLIP)
    assert model._frozen == (model.clip,)  # in plain sight, and no part of the module
    assert not any(module is model.clip for module in model.modules())
    assert set(model.state_dict()) == {"context.ctx", "_extra_state"}
