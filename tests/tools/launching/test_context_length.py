"""What prompt_length varies, on built models of every method."""

import pytest

from runs import shipped
from tools.launching.cell import Cell
from tools.launching.context_length import _declared, _tokens, length_settings
from tools.launching.published_configs import published_config
from tools.protocols.prompt_length import prompt_length

WITH_PROMPTS = [
    name
    for name in shipped.trainers()
    if any(key.rpartition(".")[2].startswith("N_CTX") for key in _declared(name))
]
CONFIGS = [f"{name}/{published_config(name, 'prompt_length', 'dtd', 16)}" for name in WITH_PROMPTS]
CONFIGS += ["KgCoOp/mini", "IVLP/vit_b16_c2_ep5_batch4_4ctx_language_only", "MMTPA/sun397"]


def pairs(settings):
    return dict(zip(settings[::2], settings[1::2]))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_has_as_many_tokens_as_it_is_told(config):
    trainer, name = config.split("/")
    for length in (2, 16):
        assert _tokens(trainer, name, tuple(length_settings(trainer, name, length))) == {length}


def test_lengths_reach_every_tower_of_a_method():
    assert length_settings("MaPLe", "mini", 3) == ["TRAINER.MAPLE.N_CTX", "3"]
    assert pairs(length_settings("IVLP", "mini", 3)) == {
        "TRAINER.IVLP.N_CTX_TEXT": "3",
        "TRAINER.IVLP.N_CTX_VISION": "3",
    }


@pytest.mark.parametrize(
    ("config", "switch"),
    [
        ("CoOp/vit_b16", None),
        ("CoOp/vit_b16_ctxv1", ""),
        ("CoCoOp/vit_b16_c4_ep10_batch1_ctxv1", ""),
        ("KgCoOp/vit_b16_ep100", "False"),
        ("ProGrad/rn50", ""),
    ],
)
def test_words_that_decide_the_length_are_switched_off(config, switch):
    said = pairs(length_settings(*config.split("/"), 4))
    assert next((value for key, value in said.items() if key.endswith(".CTX_INIT")), None) == switch


def test_an_empty_context_init_is_not_enough_for_every_method():
    """KgCoOp starts from its own words then, and has their four tokens whatever it is told."""
    settings = ("TRAINER.COOP.N_CTX", "8", "TRAINER.COOP.CTX_INIT")
    assert _tokens("KgCoOp", "mini", (*settings, "")) == {4}
    assert _tokens("KgCoOp", "mini", (*settings, "False")) == {8}


def test_what_cannot_vary_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="ZeroshotCLIP declares no N_CTX: it has no prompt length to vary"):
        prompt_length(Cell("ZeroshotCLIP", "mini", "dtd", 1), 4)
    words = ("TRAINER.COOP.CTX_INIT", "a photo of a")
    with pytest.raises(
        ValueError, match=r"^CoOp/mini has no prompt length to vary: it has 4 context tokens whatever"
    ):
        prompt_length(Cell("CoOp", "mini", "dtd", 1, settings=words), 8)
    with pytest.raises(
        ValueError, match=r"^MaPLe/mini has no prompt length to vary: it has 6 context tokens"
    ):
        prompt_length(Cell("MaPLe", "mini", "dtd", 1, settings=("TRAINER.MAPLE.N_CTX", "6")), 8)
