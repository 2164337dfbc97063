import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch.nn import functional as F

import clip
from clip.tokenizer import tokenize as clip_tokenize
from datasets.shapes import THINGS, Shapes
from datasets.toy import training
from datasets.toy.painting import DIGITS, Scene, Thing, missing_fonts
from runs import ROOT
from tools.train_mini import parse

MINI = ROOT / "clip" / "mini"
with_fonts = pytest.mark.skipif(bool(missing_fonts()), reason=f"matplotlib has no {missing_fonts()}")


def train(output: Path, *options: str) -> dict[str, torch.Tensor]:
    quick = ["--images", "64", "--batch", "16", "--processes", "1", "--image-steps", "2", "--text-steps", "2"]
    training.main(parse(["--output", str(output), *quick, *options]))
    return load_file(output)


@with_fonts
def test_training_gives_a_model_that_loads_and_repeats(tmp_path: Path) -> None:
    first = train(tmp_path / "a.safetensors")
    again = train(tmp_path / "b.safetensors")
    other = train(tmp_path / "c.safetensors", "--seed", "2")
    shipped = load_file(MINI / "mini.safetensors")
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in shipped.items()}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.conv1.weight"], other["visual.conv1.weight"])


def test_a_matplotlib_without_a_font_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "missing_fonts", lambda: ["cmti10.ttf"])
    with pytest.raises(FileNotFoundError, match=r"no cmti10\.ttf: install 3\.11"):
        train(tmp_path / "a.safetensors")


@with_fonts
def test_both_stages_learn() -> None:
    torch.manual_seed(0)
    scenes, images = training.paint_pool(300, 32, 0, 1)
    model = training.build_model(json.loads((MINI / "mini.json").read_text()))
    args = parse(["--batch", "32", "--image-steps", "40", "--no-bf16"])
    image_loss = training.train_image_tower(model.visual, scenes, images, args)
    features = training.encode_images(model.visual, images)
    args = parse(["--batch", "64", "--text-steps", "45", "--no-bf16"])
    text_loss = training.train_text_tower(model, scenes, features, args)
    assert image_loss < 0.95 * sum(np.log(size) for size in training.HEADS)
    assert text_loss < 0.98 * np.log(64)


def test_attributes_are_the_parts_of_a_scene() -> None:
    whole = training.attributes(
        Scene("shapes", Thing("striped", "red", "star"), Thing("dotted", "blue", "ring"))
    )
    alone = training.attributes(Scene("shapes", Thing("striped", "red", "star")))
    assert len(whole) == len(training.HEADS)
    assert whole[:4] == alone[:4]
    assert alone[4:8] == [0, *[training.NOT_THERE] * 3]
    digit = training.attributes(Scene("glyph", glyph="7"))
    assert [value for value in digit if value != training.NOT_THERE] == [1, 0, 0, 0, 7]
    rng = np.random.default_rng(0)
    for _ in range(300):
        for value, size in zip(training.attributes(training.random_scene(rng)), training.HEADS):
            assert value == training.NOT_THERE or 0 <= value < size


def test_its_tokens_are_clips() -> None:
    texts = ["a photo of a striped red triangle.", "the digit three.", "7 , two dotted crosses."]
    ids = training.token_ids().tolist()
    rows, ends = training.tokenize(texts, {token: row for row, token in enumerate(ids)})
    for row, end, expected in zip(rows, ends, clip_tokenize(texts)):
        assert [ids[i] for i in row[: end + 1]] == expected[: expected.argmax() + 1].tolist()


def test_the_bundled_files_are_small_and_hold_every_word() -> None:
    assert sum(file.stat().st_size for file in MINI.iterdir()) < 5e6
    stored = load_file(MINI / "mini.safetensors")
    assert set(training.token_ids().tolist()) == set(stored["token_embedding.ids"].tolist())
    assert all(value.isfinite().all() for value in stored.values())


@torch.no_grad()
def accuracy(pictures: list[np.ndarray], labels: list[int], names: list[str], template: str) -> float:
    """Zero-shot accuracy of the bundled model in percent; pictures uint8 of any size."""
    mini = clip.load("mini")
    small = [Image.fromarray(p).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC) for p in pictures]
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in small])).permute(0, 3, 1, 2)
    features = mini.image(training.normalize(pixels)).summary[:, 0]
    texts = mini.text.encode([template.format(name) for name in names])
    predicted = (F.normalize(features, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(1)
    return 100 * float((predicted == torch.tensor(labels)).float().mean())


def test_zero_shot_on_real_digits_knows_something_and_leaves_something() -> None:
    digits = load_digits()
    pictures = [(image * 255 / 16).round().astype(np.uint8) for image in digits.images]
    assert 40 < accuracy(pictures, digits.target.tolist(), list(DIGITS), "a photo of a {}.") < 75


def test_zero_shot_on_shapes_depends_on_the_words_around_the_name() -> None:
    names = [thing.name for thing in THINGS]
    labels = list(range(len(names))) * 8
    pictures = [Shapes.picture("test", label, i // len(names)) for i, label in enumerate(labels)]
    plain = accuracy(pictures, labels, names, "a photo of a {}.")
    assert 40 < plain < 75
    assert accuracy(pictures, labels, names, "a photo of the large {}.") > plain + 10
    assert accuracy(pictures, labels, names, "a photo of the small {}.") < plain - 20
