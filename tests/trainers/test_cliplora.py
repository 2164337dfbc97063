"""CLIP-LoRA: which matrices, what dropout does, and the release's gradients."""

import json

import pytest
import torch

from clip import CLIP
from tests.clip import tiny
from tests.clip.test_image_tower import resnet
from tests.trainers.harness import assert_close, evaluate, learned, load
from tools import parity
from trainers import class_texts
from trainers.cliplora import CLIPLoRAModel

NAMES = ["a cat", "old dogs", "sea or lake", "a very long name of a class"]


@pytest.fixture(scope="module")
def towers():
    return CLIP(tiny.model(tiny.state_dict(64, 64, 32, layers=6)), "tiny")


@pytest.fixture
def build(make):
    cfg = make("CLIPLoRA").cfg

    def build(towers, **options):
        cfg.defrost()
        for name, value in options.items():
            cfg.TRAINER.CLIPLORA[name] = value
        torch.manual_seed(0)
        model = CLIPLoRAModel(cfg, towers, NAMES, "a blurry {}.")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("up"):
                    parameter.normal_(std=0.1)
        return model

    return build


@pytest.mark.parametrize(
    ("position", "blocks"),
    [("all", "012345"), ("bottom", "01"), ("mid", "23"), ("up", "45"), ("half-up", "345"), ("half-bottom", "012")],
)  # fmt: skip
def test_positions_and_parameters(position, blocks, build, towers):
    model = build(towers, POSITION=position, PARAMS=("o", "q"), R=3, ENCODER="vision")
    assert set(model.additions) == {f"vision_{block}_{name}" for block in blocks for name in "qo"}
    assert sum(p.numel() for p in model.parameters()) == len(blocks) * 2 * 2 * 3 * 64
    assert model.text_changes().none
    assert set(build(towers, POSITION="all", ENCODER="text").text_changes().weights) == {
        f"blocks.{block}.{name}.weight" for block in range(6) for name in "qo"
    }


def test_the_published_number_of_parameters():
    """Of ViT-B/16, by its widths and depth."""
    assert sum(12 * len("qkv") * 2 * 2 * width for width in (512, 768)) == 184_320


def test_dropout_is_for_training_alone_and_chunks_repeat_it(build, towers, monkeypatch):
    """What a chunk computes again for its gradient has the masks that it had."""
    model = build(towers, ENCODER="text", DROPOUT_RATE=0.25)
    model.class_texts.chunk = 2
    gradients = []
    for again in (class_texts.checkpoint, lambda tower, *args, **_: tower(*args)):
        monkeypatch.setattr(class_texts, "checkpoint", again)
        torch.manual_seed(1)
        texts = model.encode_texts()
        gradients.append(torch.autograd.grad(texts.square().sum(), list(model.parameters())))
    assert all(torch.allclose(a, b, atol=1e-5 * b.abs().max().item()) for a, b in zip(*gradients))
    model.eval()
    assert not model.text_changes().random
    assert torch.equal(model.encode_texts(), model.encode_texts())


def test_the_release_errs_in_gradients_without_dropout_alone(build, towers):
    """Its forward pass is right; so is the gradient of the last matrix, behind which there is no other."""
    results = []
    for variant, rate in (("paper", 0.0), ("release", 0.0), ("release", 1e-12)):
        model = build(towers, ENCODER="text", PARAMS=("q", "k", "v"), VARIANT=variant, DROPOUT_RATE=rate)
        texts = model.encode_texts()
        gradients = torch.autograd.grad(texts.square().sum(), list(model.parameters()))
        results.append((texts, dict(zip(learned_names(model), gradients))))
    (exact, right), (released, wrong), (dropping, with_dropout) = results
    assert torch.allclose(released, exact, rtol=1e-5)
    assert torch.allclose(dropping, exact, rtol=1e-4, atol=1e-5 * exact.abs().max().item())
    for name, gradient in right.items():
        size = gradient.abs().max()
        assert (with_dropout[name] - gradient).abs().max() < 1e-4 * size
        last = name.startswith("additions.text_5")
        assert ((wrong[name] - gradient).abs().max() < 1e-5 * size) == last, name


def learned_names(model):
    return [name for name, _ in model.named_parameters()]


def test_a_resnet_takes_no_additions(build):
    with pytest.raises(
        ValueError, match=r"^ENCODER is 'both', the image tower of MODEL.BACKBONE.NAME 'resnet'"
    ):
        build(resnet()[1])
    assert build(resnet()[1], ENCODER="text").image_changes().none


def test_training_with_dropout_learns(make):
    trainer = make("CLIPLoRA", "TRAINER.CLIPLORA.DROPOUT_RATE", 0.25)
    before, batch = learned(trainer), next(iter(trainer.train_loader_x))
    trainer.set_model_mode("train")
    trainer.batch_idx, trainer.num_batches = 0, 3
    first, second = (float(trainer.forward_backward(batch)["loss"]) for _ in range(2))
    assert first != second
    assert trainer.logit_scale == 100
    assert any(not torch.equal(value, before[name]) for name, value in learned(trainer).items())


@pytest.fixture
def released(shared, tmp_path):
    """The recorded case: its trainer with other additions, itself, and what the file of its release holds."""
    folder = shared / "parity_newer"
    index = json.loads((folder / "index.json").read_text())
    case = parity.Case(folder, "cliplora", index["cliplora"])
    trainer = parity.build(case, *parity.find_trainer(case), tmp_path)
    [state] = case.checkpoint().values()
    weights = {f"layer_{i}": {} for i in range(len(case.meta["checkpoint_file"]["layers_in_order"]))}
    for i, layer in enumerate(case.meta["checkpoint_file"]["layers_in_order"]):
        for matrix in ("q_proj", "k_proj", "v_proj"):
            both = {f"w_lora_{part}": state[f"{layer}.{matrix}.w_lora_{part}"].half() for part in "AB"}
            weights[f"layer_{i}"][matrix] = both
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_()
    said = {"r": 2, "alpha": 1, "encoder": "both", "params": ["q", "k", "v"], "position": "all"}
    return trainer, case, {"weights": weights, "metadata": said}


def test_the_file_of_the_release_is_read(released, tmp_path):
    trainer, case, file = released
    torch.save(file, tmp_path / "lora_weights.pt")
    load(trainer, tmp_path / "lora_weights.pt")
    logits = evaluate(trainer, case.batches[0]["img"])
    assert_close(logits, case.recorded["eval.logits"], 1e-3)  # of halves


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("r", 4, r"R is 2, it was written with r 4$"),
        ("params", ["q", "v"], r"PARAMS is \['k', 'q', 'v'\], it was written with params \['q', 'v'\]$"),
        ("position", "up", r"POSITION is all, it was written with position up$"),
    ],
)
def test_a_file_of_other_settings_is_one_line(key, value, said, released, tmp_path):
    trainer, _, file = released
    file["metadata"][key] = value
    torch.save(file, tmp_path / "lora_weights.pt")
    with pytest.raises(ValueError, match=rf"lora_weights\.pt: .*TRAINER\.CLIPLORA\.{said}"):
        load(trainer, tmp_path / "lora_weights.pt")


def test_a_file_of_fewer_layers_names_what_it_lacks(released, tmp_path):
    trainer, _, file = released
    del file["weights"]["layer_5"]
    torch.save(file, tmp_path / "lora_weights.pt")
    with pytest.raises(
        ValueError, match=r"it lacks visual\.transformer\.resblocks\.2\.attn\.k_proj\.w_lora_A"
    ):
        load(trainer, tmp_path / "lora_weights.pt")
