"""What a weights file does not say itself is asked for, and what a model was trained with is known or refused."""

import json
import math
import re

import huggingface_hub
import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

import clip
from clip.catalogue import Preprocess, look_up
from clip.load import from_openai_state_dict, load
from tests.clip import tiny
from tests.clip.test_load import save_torchscript
from tests.clip.test_text_tower import TEXTS, assert_close
from trainers.text_context import TextContext

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """The same weights as open_clip's training saves them, and as OpenAI's archive."""
    folder = tmp_path_factory.mktemp("files")
    torch.save({"epoch": 3, "name": "mine", "state_dict": weights}, folder / "open_clip.pt")
    save_torchscript(weights, folder / "openai.pt")
    return folder


def assert_same(towers, original, texts=TEXTS):
    assert_close(towers.image(IMAGES).summary[:, 0], original.encode_image(IMAGES))
    ids = torch.zeros(len(texts), original.context_length, dtype=torch.long)
    for row, text in zip(ids, texts):
        tokens = [clip.SOS, *clip.encode(text), clip.EOT]
        row[: len(tokens)] = torch.tensor(tokens)
    assert_close(towers.text.encode(texts), original.encode_text(ids))


# The activation function


@pytest.mark.parametrize("word", ["gelu", "quickgelu"])
def test_the_activation_of_a_file_is_the_one_that_is_said(word, files, weights):
    towers = load(f"{word}:{files}/open_clip.pt")
    assert towers.activation == {"gelu": "GELU", "quickgelu": "QuickGELU"}[word]
    assert_same(towers, tiny.model(weights, quick_gelu=word == "quickgelu"))


def test_weights_with_another_activation_are_another_backbone(files):
    """Else cached features and prompts of one would be taken for the other's."""
    gelu, quick = (load(f"{word}:{files}/open_clip.pt") for word in ("gelu", "quickgelu"))
    assert gelu.hash != quick.hash


def test_openais_archive_says_it_by_being_one(files):
    towers = load(f"{files}/openai.pt")
    assert towers.activation == "QuickGELU"
    assert towers.preprocess == Preprocess()
    assert towers.hash == load(f"quickgelu:{files}/openai.pt").hash


def test_a_file_that_does_not_say_it_is_refused_with_what_to_type(files):
    path = f"{files}/open_clip.pt"
    with pytest.raises(ValueError, match="does not say its activation function") as error:
        load(path)
    for word in ("quickgelu", "gelu", "MODEL"):
        assert f" {word}:{path}" in str(error.value)


# Sizes


@pytest.fixture
def known_model(tmp_path):
    """A model that open_clip knows by name, with 32 wide heads, 32 text positions and GELU."""
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "Tiny-32.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "configs" / "Tiny-32.json")
    yield "Tiny-32"
    from open_clip import factory

    del factory._MODEL_CONFIGS["Tiny-32"]


def test_a_models_name_says_all_that_a_file_does_not(known_model, tmp_path):
    torch.manual_seed(1)
    original = open_clip.create_model(known_model).eval().requires_grad_(False)
    torch.save({"state_dict": original.state_dict()}, tmp_path / "weights.pt")
    towers = load(f"{known_model}:{tmp_path}/weights.pt")
    assert towers.activation == "GELU"
    assert towers.preprocess is None
    assert_same(towers, original)
    with pytest.raises(ValueError, match=rf"MODEL:{tmp_path}/weights\.pt .*, one of {known_model}$"):
        load(f"gelu:{tmp_path}/weights.pt")  # which would have heads of 64


def test_a_file_of_another_model_is_named(known_model, weights, tmp_path):
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=f"does not hold weights of {known_model}"):
        load(f"{known_model}:{tmp_path}/other.safetensors")


def test_sizes_that_models_have_with_other_heads_are_refused():
    weights = {"visual.conv1.weight": torch.zeros(1280, 3, 14, 14), "visual.proj": torch.zeros(1280, 1024)}
    with pytest.raises(
        ValueError, match=r"set MODEL.BACKBONE.NAME to MODEL:h\.pt .* one of ViT-H-14, ViT-H-14-378, "
    ):
        from_openai_state_dict(weights, "quickgelu:h.pt")


@pytest.mark.parametrize("length", [32, 72, 77, 248])
def test_a_text_tower_of_another_length_is_taken_as_it_is(length):
    torch.manual_seed(length)
    original = (
        open_clip.CLIP(
            embed_dim=64,
            vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
            text_cfg={"context_length": length, "width": 64, "heads": 1, "layers": 2},
        )
        .eval()
        .requires_grad_(False)
    )
    towers = clip.CLIP(original, "tiny")
    longest = " ".join(["dog"] * (length - 2))
    assert_same(towers, original, ["a dog", longest])
    with pytest.raises(ValueError, match=f"takes {length + 1} tokens, the text tower holds {length}"):
        towers.text.encode([longest + " dog"])


@pytest.mark.parametrize("length", [32, 248])
def test_output_tokens_of_a_text_tower_of_another_length(length):
    """Under roots of several lengths, tokens behind the end of a text are asked for: they lie within the context."""
    torch.manual_seed(0)
    original = open_clip.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        text_cfg={"context_length": length, "width": 64, "heads": 1, "layers": 2},
    )
    towers = clip.CLIP(original, "tiny")
    long = " ".join(["word"] * (length - 4))
    context = TextContext(towers, ["dog", "a dog"[2:]], 2, sentences=[long, ""], tokens="first")
    with torch.no_grad():
        tokens = towers.text(context()).tokens
    assert tokens.shape == (2, 2, length - 2, 64)


# Numbers


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [math.inf, -math.inf]])
def test_weights_that_are_not_finite_are_named(weights, tmp_path, values):
    wrong = {name: tensor.clone() for name, tensor in weights.items()}
    wrong["visual.ln_post.bias"][: len(values)] = torch.tensor(values)
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(
        ValueError, match=r"the weights visual\.ln_post\.bias hold numbers that are not finite"
    ):
        load(f"gelu:{tmp_path}/wrong.safetensors")


def test_large_weights_are_finite_though_their_sum_is_not(weights, tmp_path):
    large = {name: tensor.clone() for name, tensor in weights.items()}
    large["visual.ln_post.bias"][:2] = 3e38
    save_file(large, tmp_path / "large.safetensors")
    assert load(f"gelu:{tmp_path}/large.safetensors").image.visual.ln_post.bias[0] > 2e38


# The tokenizer


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [
        ("ViT-H-14-worldwide-quickgelu:metaclip2_worldwide", "facebook/xlm-v-base"),
        ("ViT-B-16-SigLIP:webli", "timm/ViT-B-16-SigLIP"),
        ("xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k", "xlm-roberta-base"),
        ("ViT-L-14-CLIPA:datacomp1b", "bert-base-uncased"),
    ],
)
def test_a_model_with_another_tokenizer_is_refused_before_it_is_fetched(name, tokenizer):
    if tuple(name.split(":")) not in open_clip.list_pretrained():
        pytest.skip(f"open_clip {open_clip.__version__} does not know it")
    with pytest.raises(ValueError, match=rf"reads another tokenizer \({tokenizer}\).* such as .*ViT-B/16"):
        load(name)


def test_models_with_clips_own_tokenizer_are_taken():
    for name in ("ViT-B-32:laion2b_s34b_b79k", "MobileCLIP-B:datacompdr", "PE-Core-B-16:meta"):
        assert look_up(name) == tuple(name.split(":"))


# A model of the hub, in the hub's cache


@pytest.fixture
def on_the_hub(monkeypatch, tmp_path):
    """A function that puts a model where the hub's client keeps what it has fetched; there is no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(text=None, preprocess=None):
        text = {
            "context_length": 32,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 2,
            **(text or {}),
        }
        config = {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
            "text_cfg": text,
        }
        model = tmp_path / "hub" / "models--me--tiny"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("1" * 40)
        snapshot = model / "snapshots" / ("1" * 40)
        snapshot.mkdir(parents=True)
        about = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
        (snapshot / "open_clip_config.json").write_text(json.dumps(about))
        torch.manual_seed(0)
        built = open_clip.CLIP(64, config["vision_cfg"], {k: v for k, v in text.items() if "token" not in k})
        save_file(
            {k: v.clone() for k, v in built.state_dict().items()}, snapshot / "open_clip_model.safetensors"
        )
        return built.eval().requires_grad_(False)

    yield put
    # before 1.0 a session that began offline stays so
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()


def test_a_model_of_the_hub_knows_what_it_was_trained_with(on_the_hub):
    original = on_the_hub(
        preprocess={"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize_mode": "squash"}
    )
    towers = load("hf-hub:me/tiny")
    assert_same(towers, original)
    assert towers.preprocess == Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", "squash")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"hf_tokenizer_name": "me/words"}, "me/words"),
        ({"vocab_size": 1000}, "one of 1,000 entries"),
        ({"tokenizer_kwargs": {"clean": "canonicalize"}}, "CLIP's with {'clean': 'canonicalize'}"),
    ],
)
def test_a_model_of_the_hub_with_another_tokenizer_is_refused(on_the_hub, text, said):
    on_the_hub(text)
    with pytest.raises(
        ValueError, match=f"^backbone 'hf-hub:me/tiny' reads another tokenizer .*{re.escape(said)}"
    ):
        load("hf-hub:me/tiny")
