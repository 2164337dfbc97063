"""ATPrompt: the class text of a data set, as it should be and as the release has it, and what is kept with a model."""

import pytest
import torch

from clip import EOT, SOS, encode
from dassl.engine import build_trainer
from tests.trainers.harness import assert_close, evaluate, fit, learned, load, make_cfg

OWN = "TRAINER.ATPROMPT."


def keys(*pairs):
    return tuple(f"{OWN}{part}" if i % 2 == 0 else part for i, part in enumerate(pairs))


def of_dataset(trainer, dataset, **options):
    """The trainer's model as it is on another data set, with its words."""
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NAME, cfg.TRAINER.ATPROMPT.ATT1_TEXT, cfg.TRAINER.ATPROMPT.ATT2_TEXT = dataset, "", "none"
    for key, value in options.items():
        cfg.TRAINER.ATPROMPT[key] = value
    return type(trainer.model)(cfg, trainer.model.clip, ["old_cat", "dog"], "a photo of a {}.")


@pytest.mark.parametrize("host", ["CoOp", "MaPLe"])
@pytest.mark.parametrize(
    ("dataset", "options", "text"),
    [
        ("EuroSAT", {}, "u1 u2 habitat v1 v2"),
        ("ImageNetV2", {}, "u1 u2 color u3 u4 shape v1 v2"),
        ("ImageNetV2", {"ATT_NUM": 1, "N_ATT1": 3}, "u1 u2 u3 color v1 v2"),
        ("EuroSAT", {"ATT1_TEXT": "wing_span", "N_ATT1": 1}, "u1 wing span v1 v2"),
        ("OxfordPets", {}, "u1 u2 play fulness u3 u4 energy v1 v2"),
        ("OxfordPets", {"VARIANT": "release"}, "u1 u2 play u3 u4 x v1 v2 x"),
        ("OxfordPets", {"VARIANT": "release", "ATT_NUM": 1}, "u1 u2 play v1 v2 x"),
        (
            "OxfordPets",
            {"VARIANT": "release", "N_ATT1": 3, "N_ATT2": 4},
            "u1 u2 u3 play u4 u5 u6 u7 x v1 v2 x",
        ),
        ("EuroSAT", {"USE_ATPROMPT": False}, "v1 v2"),
    ],
)
def test_the_class_text_and_where_deep_prompts_stand_in_it(host, dataset, options, text, make):
    model = of_dataset(make(f"ATPrompt{host}"), dataset, **options)
    [words] = model.words(0)
    assert [word.strip() for word in words] == ["[SOS]", *text.split(), "old", "cat", ".", "[EOT]"]
    prompts = model.text_prompts()
    assert prompts.layout.roots == (len(text.split()) + 1,)
    for embedded, word in zip(prompts.root[0], words):
        if word.endswith(" "):  # neither learned nor a part of a word
            assert torch.equal(embedded, model.clip.text.embed(encode(word))[0])
    assert torch.equal(prompts.root[0, text.split().index("v1") + 1], model.context.ctx[0])
    deep = model.text_changes().tokens
    assert len(deep) == (3 if host == "MaPLe" else 0)
    if options.get("N_ATT2") != 4:  # there the release is wrong, see below
        assert {tokens.offset for tokens in deep} <= {text.split().index("v1")}
    with torch.no_grad():
        assert torch.isfinite(model.encode_texts()).all()


def written_out(model, embed):
    """(77, w) of the class old_cat, the place of its end of text and that of deep prompts.

    The release writes placeholders and puts what is learned over them, as if every word were one token.
    """
    own, words = list(model.attributes.ctx), model.about["attributes"]
    n, tail = len(model.context.ctx), [*encode("old cat."), EOT]
    if model.as_released:
        ids = [SOS]
        for learned_here, word in zip(own, words):
            ids += encode("x") * len(learned_here) + encode(word)
        ids += encode("x") * n + tail
        tokens, place = embed(ids), 1
        for learned_here in own[: len(words)]:
            tokens[place : place + len(learned_here)] = learned_here
            place += len(learned_here) + 1
        tokens[place : place + n] = model.context.ctx
        deep = 1 + len(words) * (n + 1)
    else:
        parts = [part for pair in zip(own, map(embed, map(encode, words))) for part in pair]
        tokens = torch.cat([embed([SOS]), *parts, model.context.ctx, embed(tail)])
        deep = 1 + sum(map(len, parts))
    end = len(tokens) - 1
    return torch.cat([tokens, embed([0] * (76 - end))]), end, deep


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("OxfordPets", {"VARIANT": "release"}),
        ("ImageNet", {"VARIANT": "release", "N_ATT1": 3}),
        ("OxfordPets", {"N_ATT1": 3, "N_ATT2": 1}),
    ],
)
def test_features_and_gradients_are_those_of_the_text_written_out(dataset, options, make):
    model = of_dataset(make("ATPromptMaPLe"), dataset, **options)
    tower, n = model.clip.text, len(model.context.ctx)
    tokens, end, deep = written_out(model, lambda ids: tower.embed(ids).float().clone())
    x = (tokens + tower.positional_embedding[:77])[None]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    for i, block in enumerate(tower.transformer.resblocks):
        if i:
            x = torch.cat([x[:, :deep], model.context.deep[i - 1][None], x[:, deep + n :]], dim=1)
        x = block(x, attn_mask=mask)
    expected = tower.ln_final(x)[0, end] @ tower.text_projection
    found = model.encode_texts()[0]
    assert_close(found, expected, 1e-5)
    weights = torch.linspace(-1, 1, len(found))
    parameters = [*model.context.parameters(), *list(model.attributes.ctx)[:2]]
    theirs = torch.autograd.grad(expected @ weights, parameters)
    for ours, plain in zip(torch.autograd.grad(found @ weights, parameters), theirs):
        assert_close(ours, plain, 1e-5)


def test_the_release_places_deep_prompts_as_if_n_att_were_n_ctx(make):
    longer = keys("VARIANT", "release", "N_ATT1", 3, "N_ATT2", 2)
    [first, *_] = make("ATPromptMaPLe", *longer).model.text_changes().tokens
    assert first.offset == 2 * (2 + 1)  # not 3 + 1 + 2 + 1
    with pytest.raises(ValueError, match="N_ATT1 to N_ATT2 are 1, 1: VARIANT release places deep prompts"):
        make("ATPromptMaPLe", *keys("VARIANT", "release", "N_ATT1", 1, "N_ATT2", 1))


def test_initial_words_of_the_host_are_not_used(make):
    """MaPLe's default starts its context from them, and would leave two of four in the text."""
    model = make("ATPromptMaPLe", "TRAINER.MAPLE.CTX_INIT", "a photo of a").model
    assert "photo" not in " ".join(model.words(0)[0])
    assert model.context.ctx.std() < 0.03


@pytest.mark.parametrize(("variant", "words"), [("paper", ["color", "shape"]), ("release", ["luxury"])])
def test_the_words_of_an_evaluation(variant, words, make, images, tmp_path, capsys):
    trained = fit(make("ATPromptCoOp", "OPTIM.MAX_EPOCH", 1, *keys("VARIANT", variant), output="trained"))
    other = make("ATPromptCoOp", *keys("VARIANT", variant, "ATT1_TEXT", "luxury", "ATT2_TEXT", ""))
    load(other, trained.cfg.OUTPUT_DIR)
    assert other.model.about["attributes"] == words
    assert all(torch.equal(value, learned(trained)[name]) for name, value in learned(other).items())
    assert torch.equal(evaluate(other, images), evaluate(trained, images)) == (variant == "paper")
    assert other.disclosed()[2:] == (["set_for_target"] if variant == "release" else [])


def test_words_of_several_tokens_are_named_where_one_is_kept(make, data_root, tmp_path, capsys):
    settings = keys("ATT1_TEXT", "playfulness", "ATT2_TEXT", "energy", "VARIANT", "release")
    build_trainer(make_cfg("ATPromptCoOp", data_root, tmp_path, *settings))
    [line] = [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]
    assert "VARIANT is release, the attribute 'playfulness' 2 tokens (play, fulness)" in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            keys("ATT1_TEXT", "none", "ATT2_TEXT", ""),
            "there are no words for data set HandwrittenDigits: a word",
        ),
        (keys("ATT_NUM", 3), r"ATT_NUM is 3, there are 2 words \(color, shape\)"),
        (keys("ATT_NUM", 4), r"ATT_NUM is 4, 0 to 3 is needed"),
        (("TRAINER.COOP.CSC", True), "CSC False and CLASS_TOKEN_POSITION end are needed"),
        (("TRAINER.COOP.CLASS_TOKEN_POSITION", "front"), "CSC False and CLASS_TOKEN_POSITION end are needed"),
        (keys("N_ATT1", 70), "77"),
    ],
)
def test_what_does_not_go_is_one_line(settings, said, make):
    with pytest.raises(ValueError, match=said) as error:
        make("ATPromptCoOp", *settings)
    assert "\n" not in str(error.value)
