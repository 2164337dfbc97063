"""Backbones by name and from files; what is in a file is never executed."""

import os
import pickle
import re
import subprocess
import sys
import warnings
import zipfile

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import clip
from clip.archive import read_weights
from clip.catalogue import look_up
from clip.load import MINI
from tests.clip import tiny
from tests.clip.test_text_tower import TEXTS, assert_close


def load(path, precision="fp32"):
    """A file of weights that were trained with QuickGELU."""
    return clip.load(f"quickgelu:{path}", precision)


def names(error):
    """The message, which is one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def save_torchscript(weights, path):
    """An archive as OpenAI published them: a traced program whose modules carry the parameters' names."""
    model, text = tiny.model(weights), open_clip.tokenize("a")
    size = model.visual.image_size[0]
    model.attn_mask = model._buffers.pop("attn_mask")  # OpenAI's is no buffer
    for name, value in (("input_resolution", size), ("context_length", 77), ("vocab_size", 49408)):
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    inputs = {"encode_image": torch.zeros(1, 3, size, size), "encode_text": text}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of itself
        torch.jit.trace_module(model, inputs, check_trace=False).save(str(path))


def torchs_state_dict(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(str(path)).state_dict()


@pytest.fixture(scope="module")
def saved(weights, tmp_path_factory):
    """The same weights (exact in half precision) in every format, and the name of each file."""
    folder = tmp_path_factory.mktemp("weights")
    exact = {name: value.half().float() for name, value in weights.items()}
    half = {name: value.half() for name, value in exact.items()}
    save_file(exact, folder / "fp32.safetensors")
    save_file(half, folder / "fp16.safetensors")
    torch.save(half, folder / "fp16.pt")
    torch.save(half, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    wrapped = {f"module.{name}": value for name, value in half.items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": wrapped}, folder / "training.pt")
    save_torchscript(exact, folder / "archive.pt")
    return folder


FILES = ["fp32.safetensors", "fp16.safetensors", "fp16.pt", "legacy.pt", "training.pt", "archive.pt"]


@pytest.fixture(scope="module")
def exact(saved):
    return load(saved / "fp32.safetensors")


@pytest.mark.parametrize("file", FILES)
def test_every_format_gives_the_same_towers_and_hash(file, saved, exact, weights):
    towers = load(saved / file)
    assert towers.hash == exact.hash
    assert towers.name == f"quickgelu:{saved / file}"
    assert towers.logit_scale.dtype == torch.float32
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(towers.image(images).summary, exact.image(images).summary)
    assert torch.equal(towers.text.encode(TEXTS), exact.text.encode(TEXTS))
    assert not any(p.requires_grad for p in towers.parameters())


def test_the_towers_are_open_clips(exact, weights):
    original = tiny.model({name: value.half().float() for name, value in weights.items()})
    images = torch.randn(2, 3, 32, 32)
    assert_close(exact.image(images).summary[:, 0], original.encode_image(images))
    assert_close(exact.text.encode(TEXTS), original.encode_text(open_clip.tokenize(TEXTS)))


def test_weights_in_fp32_are_not_rounded(weights, tmp_path):
    save_file(weights, tmp_path / "clip.safetensors")
    towers = load(tmp_path / "clip.safetensors")
    original = tiny.model(weights)
    assert torch.equal(towers.image.visual.conv1.weight, original.visual.conv1.weight)
    assert torch.equal(
        towers.text.transformer.resblocks[0].mlp.c_fc.weight,
        weights["transformer.resblocks.0.mlp.c_fc.weight"],
    )


@pytest.mark.parametrize("precision", clip.PRECISIONS)
def test_the_hash_is_the_same_in_every_precision(precision, saved, exact):
    assert load(saved / "fp16.pt", precision).hash == exact.hash


def test_other_weights_have_another_hash(saved, exact, tmp_path):
    weights = read_weights(saved / "fp32.safetensors")
    weights["transformer.resblocks.1.mlp.c_fc.bias"][3] += 1e-3
    save_file(weights, tmp_path / "clip.safetensors")
    assert re.fullmatch("[0-9a-f]{16}", exact.hash)
    assert load(tmp_path / "clip.safetensors").hash != exact.hash


def test_an_archive_is_read_as_torch_reads_it(saved):
    ours, theirs = read_weights(saved / "archive.pt"), torchs_state_dict(saved / "archive.pt")
    assert ours.keys() == theirs.keys() > set(tiny.state_dict())
    assert all(
        torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours
    )


def test_a_resnet_from_a_file(tmp_path):
    save_file(tiny.resnet_state_dict(), tmp_path / "resnet.safetensors")
    towers = load(tmp_path / "resnet.safetensors")
    assert type(towers.image.visual).__name__ == "ModifiedResNet"
    assert towers.joint_width == 128
    assert towers.image.image_size == (32, 32)


def test_towers_stay_in_evaluation_mode(exact):
    assert not any(module.training for module in exact.train().modules())


def test_the_home_folder_is_understood(saved, exact, monkeypatch):
    monkeypatch.setenv("HOME", str(saved))
    assert clip.load("quickgelu:~/fp16.pt").hash == exact.hash


# The bundled model


@pytest.mark.skipif(
    not (MINI / "mini.safetensors").exists(), reason="the bundled model's weights are not there"
)
class TestMini:
    def test_it_loads(self):
        towers = clip.load("mini")
        assert towers.image.image_size == (32, 32)
        assert (towers.text.width, towers.image.width, towers.joint_width) == (128, 128, 128)
        assert towers.hash == clip.load("mini", "fp16").hash

    def test_every_word_has_an_embedding(self):
        """Words that training never saw have embeddings of their own, the same in every process."""
        table = clip.load("mini").text.token_embedding.weight
        stored = read_weights(MINI / "mini.safetensors")["token_embedding.ids"].long()
        unseen = torch.ones(len(table), dtype=torch.bool)
        unseen[stored] = False
        assert len(table) == 49408
        assert 0 < unseen.sum() < 49408
        assert table[unseen].std().item() == pytest.approx(0.02, rel=0.01)
        drawn = torch.randn(table.shape, generator=torch.Generator().manual_seed(0)) * 0.02
        assert torch.equal(table[unseen], drawn[unseen])
        assert torch.isfinite(table).all()

    def test_it_knows_a_shape(self):
        """Weights in the right places: two captions of a model that was trained are not alike."""
        features = clip.load("mini").text.encode(["a red triangle", "the digit seven"])
        assert torch.nn.functional.cosine_similarity(*features, dim=0) < 0.9


# What a file cannot do


def test_a_pickle_that_calls_a_function_is_refused_and_calls_nothing(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for number, options in enumerate(({}, {"_use_new_zipfile_serialization": False})):
        path = tmp_path / f"{number}.pt"
        torch.save({"state_dict": {"logit_scale": Harmful()}}, path, **options)
        with pytest.raises(ValueError, match="is damaged, or no weights file") as error:
            load(path)
        assert str(path) in names(error)
        assert not (tmp_path / "executed").exists()


def replace_in_archive(source, target, changed):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name.partition("/")[2], old.read(name)))


GADGETS = {
    "os.mkdir": ("os", "mkdir"),
    "builtins.eval": ("builtins", "eval"),
    "a dotted name behind torch's": ("torch", "serialization.os.mkdir"),
    "a dotted name behind a tensor's rebuilder": ("torch._utils", "_rebuild_tensor_v2.__globals__"),
}


@pytest.mark.parametrize("gadget", GADGETS)
def test_an_archive_with_a_pickle_that_calls_a_function(gadget, saved, tmp_path):
    module, name = GADGETS[gadget]
    argument = str(tmp_path / "executed")
    if name == "eval":
        argument = f"__import__('os').mkdir({argument!r})"
    call = (
        b"\x80\x04"
        + b"\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + name.encode()
    )
    call += b"\x93" + b"X" + len(argument).to_bytes(4, "little") + argument.encode() + b"\x85R."
    replace_in_archive(saved / "archive.pt", tmp_path / "bad.pt", {"data.pkl": call})
    with pytest.raises(ValueError, match="is damaged, or no weights file") as error:
        load(tmp_path / "bad.pt")
    names(error)
    assert not (tmp_path / "executed").exists()


def test_an_archives_program_is_not_run(saved, exact, tmp_path):
    """Its code files are never looked at."""
    with zipfile.ZipFile(saved / "archive.pt") as archive:
        inside = [name.partition("/")[2] for name in archive.namelist()]
    code = {name: b"raise SystemExit('executed')" for name in inside if name.startswith("code/")}
    assert code
    replace_in_archive(saved / "archive.pt", tmp_path / "other.pt", code)
    assert load(tmp_path / "other.pt").hash == exact.hash


def test_an_archive_cannot_change_what_reads_it(saved, tmp_path):
    """A pickle may set attributes of whatever a name stands for."""
    before = torch._utils._rebuild_tensor_v2.__defaults__
    # torch._utils._rebuild_tensor_v2, then BUILD with (None, {"__defaults__": (None, None)})
    call = b"\x80\x04\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93"
    call += b"N}\x8c\x0c__defaults__NN\x86s\x86b."
    replace_in_archive(saved / "archive.pt", tmp_path / "bad.pt", {"data.pkl": call})
    try:
        with pytest.raises(ValueError, match="is damaged, or no weights file"):
            load(tmp_path / "bad.pt")
        assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    finally:
        torch._utils._rebuild_tensor_v2.__defaults__ = before


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.9999])
def test_a_file_that_is_cut_is_named(file, where, saved, tmp_path):
    content = (saved / file).read_bytes()
    path = tmp_path / file
    path.write_bytes(content[: int(where * len(content))])
    with pytest.raises(ValueError, match="is damaged, or no weights file") as error:
        load(path)
    assert str(path) in names(error)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_file_of_another_kind_is_named(name, tmp_path):
    path = tmp_path / name
    path.write_text("<html>not found</html>\n")
    with pytest.raises(ValueError, match="is damaged, or no weights file") as error:
        load(path)
    assert str(path) in names(error)


@pytest.mark.parametrize("content", [[1, 2], {"logit_scale": 3.0}, torch.zeros(3), {"state_dict": [1]}])
def test_a_file_without_a_state_dict_is_named(content, tmp_path):
    torch.save(content, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match="holds no state dict") as error:
        load(tmp_path / "clip.pt")
    names(error)


def test_a_pickle_that_is_no_weights_file_is_named(tmp_path):
    (tmp_path / "clip.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(ValueError, match=r"clip\.pt"):
        load(tmp_path / "clip.pt")


def test_other_weights_are_no_clip(weights, tmp_path):
    save_file(nn.Linear(3, 3).state_dict(), tmp_path / "linear.safetensors")
    with pytest.raises(ValueError, match="is not a CLIP state dict in OpenAI's key format") as error:
        load(tmp_path / "linear.safetensors")
    names(error)

    changes = [{"logit_scale": None}, {"extra": torch.zeros(2)}, {"text_projection": torch.zeros(9, 9)}]
    changes += [{"ln_final.weight": torch.ones(32)}]  # less than the width of a head
    for number, change in enumerate(changes):
        path = tmp_path / f"{number}.safetensors"
        save_file({k: v for k, v in {**weights, **change}.items() if v is not None}, path)
        with pytest.raises(ValueError, match="is not a CLIP state dict in OpenAI's key format") as error:
            load(path)
        names(error)


# Names


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights file '.*none\.pt' does not exist"):
        load(tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["ViT-B/17", "vit_b16", "nothing/here", ""])
def test_an_unknown_name_lists_what_there_is(name):
    with pytest.raises(
        ValueError, match=f"backbone '{name}' is unknown, choose from: RN50, .*ViT-B/16.* mini"
    ) as error:
        clip.load(name)
    names(error)


def test_a_tag_is_needed_and_must_exist():
    for name in ("ViT-B-32", "ViT-B-32:nothing"):
        with pytest.raises(
            ValueError, match=r"'ViT-B-32' needs the tag .* openai, .*laion2b_s34b_b79k"
        ) as error:
            clip.load(name)
        names(error)
    with pytest.raises(ValueError, match=r"'ViT-S-32' needs .*it has no published weights"):
        clip.load("ViT-S-32")


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("ViT-B-32:openai", "ViT-B-32-quickgelu:openai"),
        ("ViT-B-32:laion400m_e31", "ViT-B-32-quickgelu:laion400m_e31"),
        ("RN50:cc12m", "RN50-quickgelu:cc12m"),
    ],
)
def test_the_wrong_activation_names_the_right_one(name, right):
    with pytest.raises(ValueError, match=f"do not fit the activation function of .*, use {right}") as error:
        look_up(name)
    names(error)
    assert look_up(right) == tuple(right.split(":"))


@pytest.mark.parametrize("name", ["RN50", "RN101", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"])
def test_the_fields_names_are_openais_weights_with_quick_gelu(name):
    model, tag = look_up(name)
    assert tag == "openai"
    assert open_clip.get_model_config(model)["quick_gelu"] is True
    assert open_clip.get_pretrained_cfg(model, tag)["quick_gelu"] is True


def test_an_unknown_precision_is_named(saved):
    with pytest.raises(ValueError, match="precision 'fp8' is unknown, choose from: fp32, fp16, amp, bf16"):
        load(saved / "fp16.pt", "fp8")


# Without a network

FETCH = """
import sys
import clip
for name in sys.argv[1:]:
    try:
        clip.load(name)
    except OSError as error:
        print(error)
"""


def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(root, tmp_path):
    """The hub cannot be reached: nothing listens at that address."""
    names = ["ViT-B/16", "ViT-B-32:laion2b_s34b_b79k", "hf-hub:nobody/nothing"]
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    unreachable = {"HF_ENDPOINT": "https://127.0.0.1", "HF_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "-c", FETCH, *names],
        env={**kept, **unreachable},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,  # it must end by itself, however slow the machine is
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == len(names)
    for name, message in zip(names, lines):
        assert message.startswith(f"weights of '{name}' ")
        assert "fetch open_clip" in message
        assert str(tmp_path / "cache" / "hub") in message
        assert "MODEL.BACKBONE.NAME" in message
