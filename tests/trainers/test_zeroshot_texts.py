"""Zero-shot texts: of which texts a class's feature is the mean, and which methods use those of the user."""

import json
import re

import pytest
import torch

from tests.trainers.harness import METHODS, assert_close, make_cfg
from trainers import zeroshot_texts
from trainers.templates import PROMPTSRC

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXTS = {name: [f"the digit {name}", *["a round ring"] * (name == "zero")] for name in NAMES}
#: Method -> where its zero-shot texts are; of the others none.
USERS = {
    "APLe": "zeroshot",
    "CLAP": "base",
    "CLIPAdapter": "texts",
    "DePTKgCoOp": "zeroshot",
    "KgCoOp": "zeroshot",
    "MMRL": "frozen_texts",
    "MMRLpp": "frozen_texts",
    "ProGrad": "zeroshot",
    "PromptSRC": "frozen_texts",
    "TCP": "zeroshot",
    "TaskRes": "base",
    "TipAdapter": "texts",
    "TipAdapterF": "texts",
    "VPT": "texts",
    "ZeroshotCLIP": "texts",
    "ZeroshotCLIP2": "texts",
}


#: These start from means of features that are not normalised.
NOT_NORMALISED = ("CLAP", "TaskRes")


def mean(clip, *texts, unit=True):
    """Normalise, mean, normalise; (d,)."""
    features = clip.text.encode(list(texts)).float()
    if not unit:
        return features.mean(dim=0)
    return torch.nn.functional.normalize(torch.nn.functional.normalize(features, dim=1).mean(dim=0), dim=0)


@pytest.fixture
def written(tmp_path):
    """The path of a file of class texts: written({"zero": ["a"]})."""

    def write(texts):
        (tmp_path / "texts.json").write_text(json.dumps(texts))
        return str(tmp_path / "texts.json")

    return write


@pytest.mark.parametrize("method", METHODS)
def test_who_uses_the_texts_and_who_says_that_it_does_not(method, make, written, capsys):
    settings = ["DATASET.CLASS_TEXTS", written(TEXTS), "DATASET.TEMPLATES", ("art of the {}.",)]
    trainer = make(method, *settings)
    model = trainer.model
    if method not in USERS:
        assert not model.written_texts.used
        assert trainer.written_texts == {}
        return
    features = getattr(model, USERS[method])
    unit = method not in NOT_NORMALISED
    zero = mean(model.clip, "the digit zero", "a round ring", "art of the zero.", unit=unit)
    assert_close(features[0], zero, 1e-5)
    assert_close(features[3], mean(model.clip, "the digit three", "art of the three.", unit=unit), 1e-5)
    assert trainer.written_texts == TEXTS
    guided = ("APLe", "DePTKgCoOp", "KgCoOp", "MMRL", "MMRLpp", "ProGrad", "PromptSRC")
    assert model.zeroshot_guides == (method in guided)


def test_without_any_promptsrc_does_not_scale_each_text(make):
    model = make("PromptSRC").model
    raw = model.clip.text.encode([template.format("two") for template in PROMPTSRC]).float().mean(dim=0)
    assert_close(model.frozen_texts[2], torch.nn.functional.normalize(raw, dim=0), 1e-5)
    given = make("PromptSRC", "DATASET.TEMPLATES", tuple(PROMPTSRC[:3])).model
    expected = mean(model.clip, *(template.format("two") for template in PROMPTSRC[:3]))
    assert_close(given.frozen_texts[2], expected, 1e-5)


@pytest.mark.parametrize("unit_each", [True, False])
def test_in_chunks_and_of_uneven_numbers(unit_each, make, monkeypatch):
    clip = make("CoOp").model.clip
    texts = [["sun"], ["the annual crop land", "a field"], ["river", "a river", "water"], ["sea"]]
    whole = zeroshot_texts.mean_features(clip, texts, unit_each)
    monkeypatch.setattr(zeroshot_texts, "CHUNK", 3)
    assert_close(zeroshot_texts.mean_features(clip, texts, unit_each), whole, 1e-5)
    for own, row in zip(texts, whole):
        assert_close(zeroshot_texts.mean_features(clip, [own], unit_each), row[None], 1e-5)


def test_classes_are_found_however_they_are_written_and_half_of_them_will_do(
    data_root, tmp_path, written, capsys
):
    path = written({name.upper() + "_": texts for name, texts in TEXTS.items()} | {"eleven": ["x"]})
    for subset in ("base", "new"):
        words = ["DATASET.SUBSAMPLE_CLASSES", subset, "DATASET.CLASS_TEXTS", path]
        cfg = make_cfg("ZeroshotCLIP", data_root, tmp_path, *words)
        trainer = build_aloud(cfg)
        assert len(trainer.model.texts) == 5
        said = [line for line in capsys.readouterr().out.splitlines() if "is no class" in line]
        assert said == [f"Warning: {path} has texts of what is no class of HandwrittenDigits: 'eleven'"]


def build_aloud(cfg):
    from dassl.engine import build_trainer

    return build_trainer(cfg)


def test_a_method_without_zero_shot_texts_says_so(data_root, tmp_path, written, capsys):
    build_aloud(make_cfg("MaPLe", data_root, tmp_path, "DATASET.TEMPLATES", ("a {}",)))
    assert "Warning: MaPLe takes no notice of DATASET.TEMPLATES" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"zero": ["a"]}, "has no texts of 'one', 'two', 'three' and 6 more; it has those of 'zero'"),
        (TEXTS | {"six": ["a " * 80]}, "the text tower holds 77 tokens, and 'a a a"),
        (TEXTS | {"six": ["b " * 76, "b " * 75, "b " * 90]}, "of 'six' has 78 (1 more are longer, too)"),
    ],
)
def test_what_does_not_fit_is_named(texts, words, make, written):
    with pytest.raises(ValueError, match=re.escape(words)):
        make("ZeroshotCLIP", "DATASET.CLASS_TEXTS", written(texts))
    make("CoOp", "DATASET.CLASS_TEXTS", written(texts))
